import { fromBase64 } from "./base64.js";
import { fromUTF8, type Bytes } from "./bytes.js";
import { refuse } from "./refusal.js";

/** The DER bytes of one PEM block of a type: lines of 64 characters, no headers, nothing before or behind. */
export function fromPEM(data: Uint8Array, type: "CERTIFICATE" | "X509 CRL" = "CERTIFICATE"): Bytes {
  const head = `-----BEGIN ${type}-----\n`;
  const tail = `\n-----END ${type}-----\n`;
  const text = fromUTF8(data) ?? "";
  if (!text.startsWith(head) || !text.endsWith(tail) || text.length <= head.length + tail.length) refuse("not one PEM block of its type");
  const lines = text.slice(head.length, -tail.length).split("\n");
  const last = lines.pop() ?? "";
  if (lines.some((line) => line.length !== 64) || last.length === 0 || last.length > 64) refuse("PEM is not in its one canonical form");
  return fromBase64(lines.join("") + last) ?? refuse("PEM is not in its one canonical form");
}
