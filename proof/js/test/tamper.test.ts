import assert from "node:assert/strict";
import { test } from "node:test";

import { verifyWith, type Verdict } from "../src/index.js";
import { isRefusal, positive, readVectors, unforeseen } from "./vectors.js";

// The smallest of their kind: each bit costs one verification.
const exhaustive = ["not-found", "recorded", "valid-three-of-four"];

/** Verifies every change of a vector and fails for the first that is not refused. */
async function refuseAll(name: string, changes: Iterable<[string, Uint8Array]>): Promise<number> {
  const v = await positive(name);
  let count = 0;
  let batch: Promise<void>[] = [];
  for (const [what, bundle] of changes) {
    count++;
    batch.push(
      verifyWith(bundle, v.anchors, v.options).then((got: Verdict) => {
        assert.ok(isRefusal(got.overall), `${name}, ${what}: ${got.overall}`);
        assert.equal(got.statement, undefined, `${name}, ${what}: shows a statement`);
        assert.notEqual(got.reason, unforeseen, `${name}, ${what}`);
      }),
    );
    // As many at once as keep the processors busy.
    if (batch.length === 32) {
      await Promise.all(batch);
      batch = [];
    }
  }
  await Promise.all(batch);
  return count;
}

for (const name of exhaustive) {
  test(`${name}: every flipped bit is refused`, async () => {
    const { bundle } = await positive(name);
    const flips = function* (): Generator<[string, Uint8Array]> {
      for (let i = 0; i < bundle.length; i++) {
        for (let bit = 0; bit < 8; bit++) {
          const changed = new Uint8Array(bundle);
          changed[i] = (changed[i] as number) ^ (1 << bit);
          yield [`bit ${bit} of byte ${i}`, changed];
        }
      }
    };
    assert.equal(await refuseAll(name, flips()), 8 * bundle.length);
  });

  test(`${name}: every truncation is refused`, async () => {
    const { bundle } = await positive(name);
    const cuts = Array.from(bundle, (_, n): [string, Uint8Array] => [`cut at ${n}`, bundle.subarray(0, n)]);
    assert.equal(await refuseAll(name, cuts), bundle.length);
  });

  test(`${name}: every byte left out or doubled is refused`, async () => {
    const { bundle } = await positive(name);
    const changes = function* (): Generator<[string, Uint8Array]> {
      for (let i = 0; i < bundle.length; i++) {
        yield [`without byte ${i}`, Buffer.concat([bundle.subarray(0, i), bundle.subarray(i + 1)])];
        yield [`byte ${i} twice`, Buffer.concat([bundle.subarray(0, i + 1), bundle.subarray(i)])];
      }
    };
    await refuseAll(name, changes());
  });
}

test("second spellings of every positive vector are refused", async () => {
  const names = readVectors().filter((v) => !isRefusal(v.expect)).map((v) => v.name);
  assert.ok(names.length >= 15);
  for (const name of names) {
    const text = new TextDecoder().decode((await positive(name)).bundle);
    await refuseAll(name, spellings(text));
  }
});

/** Other texts of the same JSON value, and texts that some reader takes for it. */
function* spellings(text: string): Generator<[string, Uint8Array]> {
  const bytes = (s: string): Uint8Array => new TextEncoder().encode(s);
  const edit = (what: string, from: string | RegExp, to: string): [string, Uint8Array] => {
    const changed = text.replace(from, to);
    assert.notEqual(changed, text, "nothing to change for " + what);
    return [what, bytes(changed)];
  };
  for (const tail of [" ", "\n", "\0", "{}", text, ","]) yield [`${JSON.stringify(tail.slice(0, 9))} behind`, bytes(text + tail)];
  for (const head of [" ", "\n", "\ufeff", "[", "//\n"]) yield [`${JSON.stringify(head)} before`, bytes(head + text)];
  yield ["a null byte behind", Buffer.concat([bytes(text), Uint8Array.of(0)])];
  for (const name of ["format", "read", "proposal", "response", "endorsements", "endorser", "signature"]) {
    const value = name === "read" || name === "endorsements" ? "null" : '"x"';
    yield edit(name + " twice, first", `"${name}":`, `"${name}":${value},"${name}":`);
    yield edit(name + " in capitals", `"${name}":`, `"${name.toUpperCase()}":`);
    yield edit(name + " in capitals besides", `"${name}":`, `"${name.toUpperCase()}":${value},"${name}":`);
    yield edit(name + " escaped", `"${name}":`, `"\\u00${name.charCodeAt(0).toString(16)}${name.slice(1)}":`);
    yield edit("a space behind " + name, `"${name}":`, `"${name}": `);
    yield edit("an unknown field before " + name, `"${name}":`, `"x":1,"${name}":`);
  }
  // The whole value of a field again, in the place of which a later one counts for JSON.parse.
  const signature = /"signature":"([^"]*)"/.exec(text)?.[1] ?? "";
  yield edit("the signature twice", `"signature":"${signature}"`, `"signature":"${signature}","signature":"${signature}"`);
  yield edit("fields in another order", /"endorser":("[^"]*"),"signature":("[^"]*")/, '"signature":$2,"endorser":$1');
  yield edit("base64 with padding", `"signature":"${signature}"`, `"signature":"${signature}${"=".repeat((4 - (signature.length % 4)) % 4 || 4)}"`);
  yield edit("base64 with a line break", '"proposal":"', '"proposal":"\\n');
  yield edit("an escaped digit", '"proposal":"C', '"proposal":"\\u0043');
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (const [, field = "", value = ""] of text.matchAll(/"(proposal|response|endorser|signature)":"([^"]*)"/g)) {
    if (value.length % 4 === 0) continue;
    const last = digits.indexOf(value.slice(-1));
    yield edit(`unused bits of ${field}`, `"${value}"`, `"${value.slice(0, -1)}${digits[last + 1] ?? "A"}"`);
  }
}

test("the twin of a signature is refused", async () => {
  const v = await positive("valid-four-of-four");
  const text = new TextDecoder().decode(v.bundle);
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
  let twins = 0;
  for (const [, signature = ""] of text.matchAll(/"signature":"([^"]*)"/g)) {
    const der = Buffer.from(signature, "base64url");
    const rLength = der[3] as number;
    const r = der.subarray(2, 4 + rLength);
    const s = BigInt("0x" + der.subarray(6 + rLength).toString("hex"));
    const digits = (order - s).toString(16);
    const high = Buffer.from("00" + digits.padStart(64, "0"), "hex");
    const body = Buffer.concat([r, Buffer.from([2, high.length]), high]);
    const twin = Buffer.concat([Buffer.from([0x30, body.length]), body]).toString("base64url");
    const got = await verifyWith(Buffer.from(text.replace(signature, twin)), v.anchors, v.options);
    assert.equal(got.overall, "bad_proof");
    assert.match(got.reason, /high S/);
    twins++;
  }
  assert.equal(twins, 4);
});

test("parts of one vector do not hold in another", async () => {
  const vectors = await Promise.all(["valid-four-of-four", "revoked", "not-found", "recorded", "expired"].map(positive));
  for (const a of vectors) {
    for (const b of vectors) {
      if (a === b) continue;
      const [one, other] = [a, b].map((v) => JSON.parse(new TextDecoder().decode(v.bundle)) as { read: Record<string, unknown> });
      for (const part of ["proposal", "response", "endorsements"]) {
        const mixed = { ...one, read: { ...one?.read, [part]: other?.read[part] } };
        const got = await verifyWith(Buffer.from(JSON.stringify(mixed)), a.anchors, a.options);
        if (JSON.stringify(mixed) === JSON.stringify(one)) continue; // the same question in both
        assert.equal(got.overall, "bad_proof", `${part} of ${b.name} in ${a.name}`);
      }
    }
  }
});
