import { hex, type Bytes } from "./bytes.js";
import { DER, tags } from "./der.js";
import { refuse } from "./refusal.js";

/** Half of the order of P-256. (r, s) and (r, n−s) verify alike; only the lower s is accepted. */
const halfOrder = 0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8n;

/** The signature (r, s) of 32 bytes each, as WebCrypto takes it, from strict DER. */
export function fromDER(der: Bytes): Bytes {
  const file = new DER(der);
  const pair = file.inside(tags.sequence);
  file.end();
  const raw = new Uint8Array(64);
  for (const end of [32, 64]) {
    const n = pair.natural();
    if (n.length === 0 || n.length > 32) refuse("the signature is out of range");
    raw.set(n, end - n.length);
  }
  pair.end();
  return raw;
}

/** Refuses the twin that anyone can make of a signature. */
export function checkLowS(raw: Bytes): void {
  if (BigInt("0x" + hex(raw.subarray(32))) > halfOrder) refuse("the signature has a high S");
}

/** Whether a signature holds. */
export async function holds(key: CryptoKey, hash: string, raw: Bytes, signed: Bytes): Promise<boolean> {
  return crypto.subtle.verify({ name: "ECDSA", hash }, key, raw, signed);
}
