/** Bytes in memory that nobody else can change while a promise is pending. */
export type Bytes = Uint8Array<ArrayBuffer>;

export function concat(...parts: Uint8Array[]): Bytes {
  const out = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

export function hex(bytes: Uint8Array): string {
  let out = "";
  for (const byte of bytes) out += byte.toString(16).padStart(2, "0");
  return out;
}

export function utf8(text: string): Bytes {
  return new TextEncoder().encode(text);
}

// ignoreBOM keeps a byte order mark as a character, where it can be refused;
// without it the decoder drops it silently.
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });

/** The text that bytes spell, or undefined when they are not UTF-8. */
export function fromUTF8(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

/** The text that bytes spell, with U+FFFD for what is not UTF-8. */
export function fromLooseUTF8(bytes: Uint8Array): string {
  return lenient.decode(bytes);
}
