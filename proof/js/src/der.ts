import { hex, type Bytes } from "./bytes.js";
import { refuse } from "./refusal.js";

// The tags that certificates and signatures hold.
export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  numericString: 0x12,
  printableString: 0x13,
  t61String: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Context-specific tags: of the field n of a structure, primitive or constructed. */
export const context = (n: number): number => 0x80 | n;
export const constructed = (n: number): number => 0xa0 | n;

/** One element of DER. */
export interface Element {
  tag: number;
  content: Bytes;
  /** With tag and length. */
  whole: Bytes;
}

/** Reads elements of DER (X.690) one behind the other: definite lengths in their shortest form, tags of one byte. */
export class DER {
  private at = 0;

  constructor(private readonly data: Bytes) {}

  get empty(): boolean {
    return this.at === this.data.length;
  }

  /** Whether an element with this tag comes next. */
  next(tag: number): boolean {
    return this.data[this.at] === tag;
  }

  /** Reads one element with this tag, or with any. */
  element(tag?: number): Element {
    const start = this.at;
    const found = this.byte();
    if ((found & 0x1f) === 0x1f || (tag !== undefined && found !== tag)) refuse("DER: another element than expected");
    let length = this.byte();
    if (length >= 0x80) {
      const bytes = length & 0x7f;
      if (bytes === 0 || bytes > 3) refuse("DER: a length of another form");
      length = 0;
      for (let i = 0; i < bytes; i++) length = (length << 8) | this.byte();
      if (length < 0x80 || length >> (8 * (bytes - 1)) === 0) refuse("DER: a length that is not in its shortest form");
    }
    if (length > this.data.length - this.at) refuse("DER: ends early");
    const content = this.data.subarray(this.at, (this.at += length));
    return { tag: found, content, whole: this.data.subarray(start, this.at) };
  }

  /** Reads the content of one element. */
  content(tag: number): Bytes {
    return this.element(tag).content;
  }

  /** Reads one element and answers a reader of what it holds. */
  inside(tag: number): DER {
    return new DER(this.content(tag));
  }

  /** Refuses anything further. */
  end(): void {
    if (!this.empty) refuse("DER: more than expected");
  }

  boolean(): boolean {
    const content = this.content(tags.boolean);
    if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) refuse("DER: not a truth value");
    return content[0] === 0xff;
  }

  /** Reads an integer that is not negative and answers its bytes without leading zeros: none for zero. */
  natural(): Bytes {
    const content = this.content(tags.integer);
    const first = content[0] ?? refuse("DER: an integer without bytes");
    if (first >= 0x80) refuse("DER: a negative integer");
    if (first === 0 && content.length > 1 && (content[1] as number) < 0x80) refuse("DER: an integer that is not in its shortest form");
    return first === 0 ? content.subarray(1) : content;
  }

  /** Reads a bit string of whole bytes. */
  bytes(): Bytes {
    const content = this.content(tags.bitString);
    if (content[0] !== 0) refuse("DER: a bit string of a broken byte");
    return content.subarray(1);
  }

  /** Reads a bit string and answers a test of its bits. */
  bits(): (n: number) => boolean {
    const content = this.content(tags.bitString);
    const unused = content[0] ?? refuse("DER: a bit string without bytes");
    const last = content[content.length - 1] as number;
    if (unused > 7 || (content.length === 1 ? unused !== 0 : (last & ((1 << unused) - 1)) !== 0)) refuse("DER: unused bits are set");
    return (n) => (((content[1 + (n >> 3)] ?? 0) << (n & 7)) & 0x80) !== 0;
  }

  /** Reads an object identifier and answers the hexadecimal digits of its content. */
  oid(): string {
    const content = this.content(tags.oid);
    let arc = 0;
    let starts = true;
    for (const byte of content) {
      // Arcs of more than 31 bits and leading zeros are second spellings to some reader.
      if ((starts && byte === 0x80) || arc >= 1 << 24) refuse("DER: an object identifier of another form");
      arc = (arc << 7) | (byte & 0x7f);
      starts = byte < 0x80;
      if (starts) arc = 0;
    }
    if (content.length === 0 || !starts) refuse("DER: an object identifier of another form");
    return hex(content);
  }

  private byte(): number {
    return this.data[this.at++] ?? refuse("DER: ends early");
  }
}
