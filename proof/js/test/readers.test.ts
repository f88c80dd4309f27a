import assert from "node:assert/strict";
import { test } from "node:test";

import { fromBase64, fromBase64URL } from "../src/base64.js";
import { hasUnknownFormat } from "../src/format.js";
import { bool, int64, list, nullable, object, optional, parseCanonical, parseText, text, time, uint64 } from "../src/json.js";
import { instantOf, parseCanonicalTime, parseTime, timeText } from "../src/time.js";
import { fromDER } from "../src/signature.js";
import { Message } from "../src/wire.js";

const bytes = (...values: number[]): Uint8Array<ArrayBuffer> => Uint8Array.from(values);
const utf8 = (s: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(s);

test("base64 has one spelling", () => {
  for (let n = 0; n < 70; n++) {
    const data = Uint8Array.from({ length: n }, (_, i) => (i * 37 + n) & 0xff);
    assert.deepEqual(fromBase64URL(Buffer.from(data).toString("base64url")), data);
    assert.deepEqual(fromBase64(Buffer.from(data).toString("base64")), data);
  }
  for (const bad of ["A", "AB==", "YWJjZB", "YWJjZA==", "YW\nJj", "YW Jj", "YW+/", "é", "AAAA=", "AAAAA"]) assert.equal(fromBase64URL(bad), undefined, bad);
  for (const bad of ["A", "AB==", "YWJjZB==", "YWJjZA", "YWJj\n", "YW-_", "====", "=", "AAA", "AAAA====", "AA=A"]) assert.equal(fromBase64(bad), undefined, bad);
});

test("canonical JSON has one spelling", () => {
  const shape = object({ s: text, n: int64, u: uint64, b: bool, t: time, l: list(text), o: optional(object({ x: text })), p: nullable(object({ x: text })) });
  const good = String.raw`{"s":"a\"\\\n\u0001\u001f\u2028政😀","n":-9223372036854775808,"u":18446744073709551615,"b":true,"t":"2026-01-02T03:04:05.12Z","l":["",""],"o":{"x":""},"p":null}`;
  const value = parseCanonical(utf8(good), shape);
  assert.equal(value.s, 'a"\\\n\u0001\u001f\u2028政😀');
  assert.equal(value.n, -(1n << 63n));
  assert.equal(parseText(good.replace(',"o":{"x":""}', "").replace("null", '{"x":"y"}').replace('["",""]', "[]"), shape).p?.x, "y");
  assert.deepEqual(parseText(good.replace('["",""]', "null"), shape).l, []);
  const edits: [string | RegExp, string][] = [
    ["{", "{ "], ['"s"', '"S"'], ['"n"', '"s"'], ["true", "True"], ["true", "1"], [/}$/, "},"], [/}$/, ',"z":1}'], [/}$/, ""],
    ["政", "\\u653f"], ["政", "\\/"], ["政", "/\t"], ["政", "\u2028"], ["政", "\\u2027"], ["政", "\\ud800"], ["政", "\\u0041"], ["政", "\\u0008"], ["政", "\\u000A"], ["政", "\\u000a"], ["\\u001f", "\\u001F"],
    ["-9223372036854775808", "-9223372036854775809"], ["-9223372036854775808", "9223372036854775808"], ["-9223372036854775808", "-0"], ["-9223372036854775808", "01"], ["-9223372036854775808", "1.0"], ["-9223372036854775808", "1e0"], ["-9223372036854775808", "+1"], ["-9223372036854775808", ""], ["-9223372036854775808", '"1"'],
    ["18446744073709551615", "18446744073709551616"], ["18446744073709551615", "-1"], ["18446744073709551615", "99999999999999999999999"],
    [".12Z", ".120Z"], [".12Z", "+00:00"], [".12Z", ".Z"], [".12Z", ".0Z"], [".12Z", "z"], ["01-02", "02-30"], ["03:04", "24:04"], [":05.", ":60."],
    ['["",""]', '["","",]'], ['["",""]', '[""""]'], ['["",""]', "{}"], ['"o":{"x":""}', '"o":null'], ['"p":null', '"p":{}'],
  ];
  for (const [from, to] of edits) {
    const changed = good.replace(from, () => to);
    assert.notEqual(changed, good);
    assert.throws(() => parseCanonical(utf8(changed), shape), `${String(from)} → ${to}`);
  }
  assert.throws(() => parseCanonical(bytes(0x22, 0xff, 0x22), text));
  assert.throws(() => parseCanonical(bytes(0x22, 0xed, 0xa0, 0x80, 0x22), text)); // half a character
  assert.throws(() => parseCanonical(utf8("\ufeff\"\""), text));
  // Names that objects have by themselves are names like others.
  assert.throws(() => parseText('{"s":"","__proto__":1}', object({ s: text })));
});

test("times", () => {
  assert.equal(parseTime("1970-01-01T00:00:00Z"), 0n);
  assert.equal(parseTime("1969-12-31T23:59:59.999999999Z"), -1n);
  assert.equal(parseTime("2026-03-02T09:30:00+08:00"), parseTime("2026-03-02T01:30:00Z"));
  assert.equal(instantOf(2000, 2, 29, 0, 0, 0), BigInt(Date.UTC(2000, 1, 29)) * 1_000_000n);
  for (const same of ["0000-01-01T00:00:00Z", "0099-12-31T23:59:59.5Z", "1969-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.000000001Z"]) {
    assert.equal(timeText(parseCanonicalTime(same) ?? 0n), same);
  }
  for (const bad of ["2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00.1234567890Z", "2026-01-01T00:00:00,5Z", "2026-01-01T00:00:00+24:00", "10000-01-01T00:00:00Z", ""]) {
    assert.equal(parseTime(bad), undefined, bad);
  }
});

test("protobuf has one spelling", () => {
  const fields = { 1: { kind: "number" }, 2: { kind: "text" }, 3: { kind: "message" }, 4: { kind: "bytes", repeated: true } } as const;
  const read = (...data: number[]): Message => new Message("test", bytes(...data), fields);
  const m = read(0x08, 0x96, 0x01, 0x12, 1, 0x61, 0x1a, 0, 0x22, 0, 0x22, 1, 7);
  assert.deepEqual([m.number(1), m.text(2), m.has(3), m.all(4).length], [150n, "a", true, 2]);
  assert.equal(read(0x08, ...Array<number>(9).fill(0xff), 1).number(1), (1n << 64n) - 1n);
  const bad: Record<string, number[]> = {
    "an unknown field": [0x2a, 0], "field 0": [0x02, 0], "a group": [0x0b, 0x0c], "a tag of two bytes": [0x88, 0x00, 1], "another wire type": [0x0d, 1, 0, 0, 0], "a number as bytes": [0x0a, 1, 1],
    "a default": [0x08, 0], "an empty text": [0x12, 0], "a repeated field": [0x08, 1, 0x08, 1], "another order": [0x12, 1, 0x61, 0x08, 1], "a long number": [0x08, 0x81, 0x00],
    "65 bits": [0x08, ...Array<number>(9).fill(0xff), 2], "11 bytes": [0x08, ...Array<number>(10).fill(0xff), 1], "a long length": [0x12, 0x81, 0x00, 0x61],
    "an early end": [0x12, 2, 0x61], "no value": [0x08], "no length": [0x12], "no UTF-8": [0x12, 1, 0xff], "a length beyond all": [0x12, ...Array<number>(9).fill(0xff), 1],
  };
  for (const [name, data] of Object.entries(bad)) assert.throws(() => read(...data), name);
});

test("signatures have one spelling", () => {
  const good = bytes(0x30, 6, 2, 1, 1, 2, 1, 2);
  const raw = fromDER(good);
  assert.deepEqual([raw.length, raw[31], raw[63]], [64, 1, 2]);
  const bad: number[][] = [
    [], [0x30], [0x30, 0], [0x31, 6, 2, 1, 1, 2, 1, 2], [0x30, 7, 2, 1, 1, 2, 1, 2, 0], [0x30, 6, 2, 1, 1, 2, 1, 2, 0], [0x30, 0x81, 6, 2, 1, 1, 2, 1, 2], [0x30, 0x80, 2, 1, 1, 2, 1, 2, 0, 0],
    [0x30, 7, 2, 2, 0, 1, 2, 1, 2], [0x30, 6, 2, 1, 0x81, 2, 1, 2], [0x30, 6, 2, 1, 0, 2, 1, 2], [0x30, 6, 2, 1, 1, 2, 1, 0], [0x30, 5, 2, 0, 2, 1, 2], [0x30, 6, 4, 1, 1, 2, 1, 2], [0x30, 9, 2, 1, 1, 2, 1, 2, 2, 1, 3],
    [0x30, 38, 2, 33, ...Array<number>(33).fill(1), 2, 1, 2],
  ];
  for (const data of bad) assert.throws(() => fromDER(bytes(...data)), data.join(" "));
});

test("a later format is told from damage", () => {
  const later = ['{"format":"zhenglian-proof/2"}', ' {"x":[{"format":1},"]",{}],"FORMAT":"zhenglian-proof/9"} \n', '{"format":null,"format":"zhenglian-proof/2"}', '{"format":"x","format":"zhenglian-proof/2"}', '{"f\\u006frmat":"zhenglian-proof/"}', '{"format":"zhenglian-proof/2","x":-1.5e+3}'];
  for (const json of later) assert.equal(hasUnknownFormat(utf8(json)), true, json);
  const other = ["", "{", "null", "[]", '"zhenglian-proof/2"', '{"format":"zhenglian-proof/1"}', '{"format":"zhenglian-proof/2","format":"zhenglian-proof/1"}', '{"format":"zhenglian-proof/2"', '{"format":"zhenglian-proof/2"}}', '{"format":"zhenglian-proof/2",}', '{"format":2}', '{"format":["zhenglian-proof/2"]}', '{"x":{"format":"zhenglian-proof/2"}}', '{"format":"zhenglian-proof/2","x":01}', '{"format":"zhenglian-proof/2" "x":1}', '[{"format":"zhenglian-proof/2"}]', "\ufeff" + '{"format":"zhenglian-proof/2"}', "{'format':'zhenglian-proof/2'}"];
  for (const json of other) assert.equal(hasUnknownFormat(utf8(json)), false, json);
});
