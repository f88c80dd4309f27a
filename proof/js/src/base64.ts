import type { Bytes } from "./bytes.js";

const standard = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const url = standard.replace("+/", "-_");

/** base64url without padding; undefined for every second spelling: padding, line breaks, unused bits that are set. */
export function fromBase64URL(text: string): Bytes | undefined {
  return decode(text, urlValues);
}

/** Standard base64 with padding; undefined for every second spelling. */
export function fromBase64(text: string): Bytes | undefined {
  if (text.length % 4 !== 0) return undefined;
  const bare = text.replace(/={1,2}$/, "");
  const digits = bare.length % 4;
  if (bare.length + ((4 - digits) % 4) !== text.length) return undefined;
  return decode(bare, standardValues);
}

const urlValues = valuesOf(url);
const standardValues = valuesOf(standard);

function valuesOf(alphabet: string): Int8Array {
  const values = new Int8Array(128).fill(-1);
  for (let i = 0; i < alphabet.length; i++) values[alphabet.charCodeAt(i)] = i;
  return values;
}

function decode(text: string, values: Int8Array): Bytes | undefined {
  if (text.length % 4 === 1) return undefined;
  const out = new Uint8Array(Math.floor((text.length * 3) / 4));
  let at = 0;
  let held = 0; // bits not written yet
  let bits = 0; // how many
  for (let i = 0; i < text.length; i++) {
    const value = values[text.charCodeAt(i)];
    if (value === undefined || value < 0) return undefined;
    held = ((held << 6) | value) & 0xfff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out[at++] = (held >> bits) & 0xff;
      held &= (1 << bits) - 1;
    }
  }
  return held === 0 ? out : undefined;
}
