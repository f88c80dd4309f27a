import { fromBase64 } from "./base64.js";
import { concat, equal, fromUTF8, hex, utf8, type Bytes } from "./bytes.js";
import { sha256 } from "./hash.js";
import { Refusal, refuse } from "./refusal.js";
import type { Outcome } from "./verdict.js";

const maxNoteBytes = 4096;
const algorithmEd25519 = 1;

// Every character that some reader takes for white space ends a name.
const keyName = /^[^+\u0009-\u000d \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$/;

/** The head of an access log: its origin, the number of its records and the Merkle root over them. */
export interface Checkpoint {
  origin: string;
  size: number;
  /** RFC 6962 tree head, SHA-256. */
  root: Uint8Array;
}

/** The answer about a signed checkpoint. */
export interface CheckpointVerdict {
  /** "" when this browser cannot decide: it has no Ed25519. */
  outcome: Outcome;
  /** One line of English. */
  reason: string;
  /** Present when the outcome is "pass". */
  checkpoint?: Checkpoint;
}

/** A log's key. */
export interface VerifierKey {
  hash: Bytes;
  key: Bytes;
}

/** Reads the text of a note verifier key whose name is origin. */
export async function parseVerifierKey(origin: string, text: string): Promise<VerifierKey> {
  if (!keyName.test(origin)) refuse("the log's origin is not the name of a key");
  const parts = /^\+([0-9a-f]{8})\+(.+)$/.exec(text.startsWith(origin) ? text.slice(origin.length) : "");
  const typed = fromBase64(parts?.[2] ?? "");
  if (parts === null || typed === undefined || typed.length !== 33 || typed[0] !== algorithmEd25519) refuse("the log's key is not an Ed25519 verifier key of that name");
  const hash = (await sha256(concat(utf8(origin + "\n"), typed))).subarray(0, 4);
  if (hex(hash) !== parts[1]) refuse("the log's key does not match its hash");
  return { hash, key: typed.subarray(1) };
}

/**
 * Checks a signed checkpoint against the origin and verifier key of the log that
 * it must come from. Stricter than C2SP: three lines of text, one signature, the
 * log's own, and one spelling of each. It never rejects.
 */
export async function openCheckpoint(unverifiedNote: Uint8Array, origin: string, verifierKey: string): Promise<CheckpointVerdict> {
  try {
    const note = new Uint8Array(unverifiedNote);
    const verifier = await parseVerifierKey(origin, verifierKey);
    const { checkpoint, text, signature } = await parseNote(note, origin);
    if (!equal(signature.subarray(0, 4), verifier.hash)) refuse("the checkpoint is signed by another key");
    const key = await importEd25519(verifier.key);
    if (key === undefined) return { outcome: "", reason: "this browser has no Ed25519: the checkpoint's signature cannot be checked here" };
    if (!(await crypto.subtle.verify("Ed25519", key, signature.subarray(4), text))) refuse("the checkpoint's signature does not hold");
    return { outcome: "pass", reason: `the log ${origin} had ${checkpoint.size} records`, checkpoint };
  } catch (error) {
    if (error instanceof Refusal) return { outcome: "fail", reason: error.message };
    return { outcome: "", reason: "cannot check: " + (globalThis.crypto?.subtle === undefined ? noWebCrypto : "internal error") };
  }
}

export const noWebCrypto = "this page has no WebCrypto (it must be served over HTTPS)";

async function parseNote(note: Bytes, origin: string): Promise<{ checkpoint: Checkpoint; text: Bytes; signature: Bytes }> {
  if (note.length > maxNoteBytes) refuse("the checkpoint is too long");
  const lines = (fromUTF8(note) ?? refuse("the checkpoint is not UTF-8")).split("\n");
  const [name, digits = "", head = "", blank, signed = "", end] = lines;
  if (lines.length !== 6 || blank !== "" || end !== "") refuse("the checkpoint is not of three lines and a signature");
  if (name !== origin) refuse("the checkpoint is of another log");
  const size = Number(digits);
  if (!/^(?:0|[1-9][0-9]{0,15})$/.test(digits) || !Number.isSafeInteger(size)) refuse("the checkpoint's size is not a number in its range");
  const root = fromBase64(head);
  if (root === undefined || root.length !== 32) refuse("the checkpoint's root is not 32 bytes of base64");
  if (size === 0 && !equal(root, await sha256(new Uint8Array()))) refuse("the checkpoint has a wrong root for an empty log");
  const prefix = "— " + origin + " ";
  const signature = signed.startsWith(prefix) ? fromBase64(signed.slice(prefix.length)) : undefined;
  if (signature === undefined || signature.length !== 68) refuse("the checkpoint has no signature of the log");
  return { checkpoint: { origin, size, root }, text: utf8(`${origin}\n${digits}\n${head}\n`), signature };
}

// Undefined where the browser does not know the algorithm: older ones refuse to
// import such a key, whatever it is.
async function importEd25519(key: Bytes): Promise<CryptoKey | undefined> {
  try {
    return await crypto.subtle.importKey("raw", key, "Ed25519", true, ["verify"]);
  } catch {
    return undefined;
  }
}
