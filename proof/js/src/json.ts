import { fromUTF8 } from "./bytes.js";
import { refuse } from "./refusal.js";
import { parseCanonicalTime, type Instant } from "./time.js";

// Canonical JSON has one spelling of each value: fields in one order, each
// exactly once, no space, one escape per character. So it is not parsed and
// compared; it is read along its shape, and whatever the shape does not spell is
// refused where it occurs. Repeated, foreign and differently spelled names
// cannot be represented at all.

/** Reads one kind of value. */
export interface Shape<T> {
  read(text: Text): T;
}

/** The value that a shape reads. */
export type Value<S> = S extends Shape<infer T> ? T : never;

/** A JSON text, and how far it has been read. */
export class Text {
  private at = 0;

  constructor(private readonly text: string) {}

  /** Reads what must come next. */
  expect(next: string): void {
    if (!this.take(next)) refuse("not in canonical form at character " + this.at);
  }

  /** Reads next if it comes next. */
  take(next: string): boolean {
    const found = this.text.startsWith(next, this.at);
    if (found) this.at += next.length;
    return found;
  }

  /** Reads what matches a sticky pattern, possibly nothing. */
  match(pattern: RegExp): string {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0] ?? "";
    this.at += found.length;
    return found;
  }

  end(): void {
    if (this.at !== this.text.length) refuse("bytes follow the JSON value");
  }
}

const plain = /[^"\\\u0000-\u001f\u2028\u2029]*/y;
const escape = /\\(?:["\\bfnrt]|u00(?:0[0-7be-f]|1[0-9a-f])|u202[89])/y;
const integer = /-?(?:0|[1-9][0-9]{0,19})/y;

/** A string. */
export const text: Shape<string> = {
  read(t) {
    t.expect('"');
    let out = t.match(plain);
    while (!t.take('"')) {
      // The escapes are those of JSON, restricted to the one that each character has.
      const escaped = t.match(escape);
      if (escaped === "") refuse("a string is not in canonical form");
      out += JSON.parse('"' + escaped + '"') as string;
      out += t.match(plain);
    }
    return out;
  },
};

/** A string that is left out when it is empty. */
export const filled: Shape<string> = {
  read(t) {
    return text.read(t) || refuse("an empty text is spelled out");
  },
};

export const bool: Shape<boolean> = {
  read(t) {
    if (t.take("true")) return true;
    t.expect("false");
    return false;
  },
};

function whole(min: bigint, max: bigint): Shape<bigint> {
  return {
    read(t) {
      const digits = t.match(integer);
      if (digits === "" || digits === "-" || digits === "-0") refuse("a number is not in canonical form");
      const n = BigInt(digits);
      return n < min || n > max ? refuse("a number is out of range") : n;
    },
  };
}

export const int64 = whole(-(1n << 63n), (1n << 63n) - 1n);
/** A number that is left out when it is zero. */
export const nonzero: Shape<bigint> = {
  read(t) {
    return int64.read(t) || refuse("a zero is spelled out");
  },
};

export const uint64 = whole(0n, (1n << 64n) - 1n);

/** A time in UTC. */
export const time: Shape<Instant> = {
  read(t) {
    return parseCanonicalTime(text.read(t)) ?? refuse("a time is not in canonical form");
  },
};

/** A list. Null is a list without entries too: a program that wrote no list wrote that. */
export function list<T>(entry: Shape<T>): Shape<T[]> {
  return {
    read(t) {
      const out: T[] = [];
      if (t.take("null")) return out;
      t.expect("[");
      if (t.take("]")) return out;
      do out.push(entry.read(t));
      while (t.take(","));
      t.expect("]");
      return out;
    },
  };
}

/** A value or null. */
export function nullable<T>(shape: Shape<T>): Shape<T | null> {
  return { read: (t) => (t.take("null") ? null : shape.read(t)) };
}

const mayBeAbsent = Symbol("may be absent");

/** A field that is left out when it has no value. */
export function optional<T>(shape: Shape<T>): Shape<T | undefined> {
  return Object.assign({ read: (t: Text) => shape.read(t) }, { [mayBeAbsent]: true });
}

type Fields = Record<string, Shape<unknown>>;

/** The fields of an object in their order. The first one is never optional. */
export function object<F extends Fields>(fields: F): Shape<{ [K in keyof F]: Value<F[K]> }> {
  const steps = Object.entries(fields).map(([name, shape], i) => ({
    name,
    shape,
    opening: (i === 0 ? "{" : ",") + JSON.stringify(name) + ":",
    optional: mayBeAbsent in shape,
  }));
  return {
    read(t) {
      const out: Record<string, unknown> = {};
      for (const step of steps) {
        if (step.optional) {
          if (!t.take(step.opening)) continue;
        } else t.expect(step.opening);
        out[step.name] = step.shape.read(t);
      }
      t.expect("}");
      return out as { [K in keyof F]: Value<F[K]> };
    },
  };
}

/** Reads canonical JSON of a shape: all of the text and nothing else. */
export function parseText<T>(json: string, shape: Shape<T>): T {
  const t = new Text(json);
  const value = shape.read(t);
  t.end();
  return value;
}

/** Reads canonical JSON of a shape from its bytes. */
export function parseCanonical<T>(data: Uint8Array, shape: Shape<T>): T {
  return parseText(fromUTF8(data) ?? refuse("not UTF-8"), shape);
}
