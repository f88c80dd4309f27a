import { concat, equal, type Bytes } from "./bytes.js";
import { sha256 } from "./hash.js";

/** The RFC 6962 hash of a log record. */
export async function leafHash(record: Uint8Array): Promise<Uint8Array> {
  return sha256(concat(Uint8Array.of(0), record));
}

/**
 * Whether the record with this leaf hash is at index of the log with this size
 * and root (RFC 9162, section 2.1.3.2). hashes go from the leaf's sibling to the
 * root's child. False unless 0 <= index < size; it never rejects.
 */
export async function verifyInclusion(leaf: Uint8Array, index: number, size: number, root: Uint8Array, hashes: readonly Uint8Array[]): Promise<boolean> {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return false;
  // A path is never longer than the bits of a size; longer ones are not even hashed.
  if (hashes.length > 53 || [leaf, root, ...hashes].some((hash) => hash.length !== 32)) return false;
  if (globalThis.crypto?.subtle === undefined) return false;
  const half = (n: number): number => Math.floor(n / 2);
  const odd = (n: number): boolean => n % 2 === 1;
  let at = index;
  let last = size - 1;
  let hash: Bytes = new Uint8Array(leaf);
  for (const sibling of hashes) {
    if (last === 0) return false; // more hashes than levels
    if (odd(at) || at === last) {
      hash = await node(sibling, hash);
      while (!odd(at) && at !== 0) {
        // A right edge without sibling rises by itself.
        at = half(at);
        last = half(last);
      }
    } else {
      hash = await node(hash, sibling);
    }
    at = half(at);
    last = half(last);
  }
  return last === 0 && equal(hash, root);
}

async function node(left: Uint8Array, right: Uint8Array): Promise<Bytes> {
  return sha256(concat(Uint8Array.of(1), left, right));
}
