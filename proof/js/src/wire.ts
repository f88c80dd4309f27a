import { fromUTF8, type Bytes } from "./bytes.js";
import { refuse } from "./refusal.js";

// Fabric signs protobuf messages, and protobuf has many spellings of one message.
// This reads the one that Fabric's own encoder writes: known fields only, in
// ascending order, each once unless repeated, tags, lengths and numbers in their
// shortest form, and no field that spells out its default.

/** How the value of a field is encoded. A message may be present and empty; the others may not. */
export type Kind = "number" | "bytes" | "text" | "message";

/** A field that a message may hold. */
export interface Field {
  kind: Kind;
  repeated?: true;
}

/** The fields that a message may hold, by number. Those used here are below 16, so that a tag is one byte. */
export type Fields = Readonly<Record<number, Field>>;

const none: Bytes = new Uint8Array();

/** The fields of a message, as read. */
export class Message {
  private readonly numbers = new Map<number, bigint>();
  private readonly values = new Map<number, Bytes[]>();

  /** Reads data as a message with the given fields; name is how a refusal calls it. */
  constructor(name: string, data: Bytes, fields: Fields) {
    let at = 0;
    let last = 0;
    const varint = (): bigint => {
      let value = 0n;
      for (let shift = 0n; ; shift += 7n) {
        const byte = data[at++] ?? refuse(name + ": ends early");
        if (shift === 63n && byte > 1) refuse(name + ": a number of more than 64 bits");
        value |= BigInt(byte & 0x7f) << shift;
        if (byte < 0x80) {
          if (byte === 0 && shift > 0n) refuse(name + ": a number is not in its shortest form");
          return value;
        }
      }
    };
    while (at < data.length) {
      const tag = data[at++] as number;
      const number = tag >> 3;
      const field = tag < 0x80 ? fields[number] : undefined;
      if (field === undefined) refuse(name + ": a field that is not allowed");
      if (number < last) refuse(`${name}: field ${number} is out of order`);
      if (number === last && !field.repeated) refuse(`${name}: field ${number} is repeated`);
      last = number;
      if ((tag & 7) !== (field.kind === "number" ? 0 : 2)) refuse(`${name}: field ${number} has another wire type`);
      const n = varint();
      if (field.kind === "number") {
        if (n === 0n) refuse(`${name}: field ${number} spells out its default`);
        this.numbers.set(number, n);
        continue;
      }
      if (n > BigInt(data.length - at)) refuse(`${name}: field ${number} ends early`);
      const value = data.subarray(at, (at += Number(n)));
      if (value.length === 0 && !field.repeated && field.kind !== "message") refuse(`${name}: field ${number} spells out its default`);
      if (field.kind === "text" && fromUTF8(value) === undefined) refuse(`${name}: field ${number} is not UTF-8`);
      const before = this.values.get(number);
      if (before === undefined) this.values.set(number, [value]);
      else before.push(value);
    }
  }

  /** A number; 0 when absent. */
  number(field: number): bigint {
    return this.numbers.get(field) ?? 0n;
  }

  /** Bytes or a nested message; empty when absent. */
  bytes(field: number): Bytes {
    return this.values.get(field)?.[0] ?? none;
  }

  /** A string; "" when absent. */
  text(field: number): string {
    return fromUTF8(this.bytes(field)) ?? "";
  }

  has(field: number): boolean {
    return this.values.has(field);
  }

  /** The values of a repeated field, in order. */
  all(field: number): Bytes[] {
    return this.values.get(field) ?? [];
  }
}
