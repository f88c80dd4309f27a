import { hex, utf8, type Bytes } from "./bytes.js";

export async function sha256(data: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data));
}

/** The lower-case hexadecimal SHA-256 of text in UTF-8. */
export async function digestOf(text: string): Promise<string> {
  return hex(await sha256(utf8(text)));
}
