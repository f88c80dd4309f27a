import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { mock, test } from "node:test";

import { leafHash, openCheckpoint, verify, verifyInclusion } from "../src/index.js";
import { testdata } from "./vectors.js";

const sha256 = (...parts: Uint8Array[]): Buffer => createHash("sha256").update(Buffer.concat(parts)).digest();

// The definitions of RFC 6962, section 2.1, as they stand there: slow, and with
// nothing in common with what they test.
function treeHead(leaves: Buffer[]): Buffer {
  if (leaves.length === 1) return leaves[0] as Buffer;
  const k = split(leaves.length);
  return sha256(Buffer.of(1), treeHead(leaves.slice(0, k)), treeHead(leaves.slice(k)));
}

function path(m: number, leaves: Buffer[]): Buffer[] {
  if (leaves.length === 1) return [];
  const k = split(leaves.length);
  if (m < k) return [...path(m, leaves.slice(0, k)), treeHead(leaves.slice(k))];
  return [...path(m - k, leaves.slice(k)), treeHead(leaves.slice(0, k))];
}

const split = (n: number): number => 2 ** Math.floor(Math.log2(n - 1));

test("inclusion agrees with the definition", async () => {
  const records = Array.from({ length: 33 }, (_, i) => Buffer.from("record " + i));
  const leaves = await Promise.all(records.map(async (r) => Buffer.from(await leafHash(r))));
  assert.deepEqual(leaves[0], sha256(Buffer.of(0), records[0] as Buffer));
  for (let size = 1; size <= leaves.length; size++) {
    const root = treeHead(leaves.slice(0, size));
    for (let index = 0; index < size; index++) {
      const leaf = leaves[index] as Buffer;
      const hashes = path(index, leaves.slice(0, size));
      assert.ok(await verifyInclusion(leaf, index, size, root, hashes), `${index} of ${size}`);
      const refused: [string, Promise<boolean>][] = [
        ["another leaf", verifyInclusion(sha256(leaf), index, size, root, hashes)],
        ["another root", verifyInclusion(leaf, index, size, sha256(root), hashes)],
        ["another index", verifyInclusion(leaf, index === 0 ? size - 1 : index - 1, size, root, hashes).then((ok) => ok && size > 1)],
        ["an index outside", verifyInclusion(leaf, size, size, root, hashes)],
        ["a negative index", verifyInclusion(leaf, -1, size, root, hashes)],
        ["half an index", verifyInclusion(leaf, index + 0.5, size, root, hashes)],
        ["one hash more", verifyInclusion(leaf, index, size, root, [...hashes, leaf])],
        ["a short root", verifyInclusion(leaf, index, size, root.subarray(1), hashes)],
      ];
      if (hashes.length > 0) refused.push(["one hash fewer", verifyInclusion(leaf, index, size, root, hashes.slice(1))]);
      if (hashes.length > 1) refused.push(["hashes in another order", verifyInclusion(leaf, index, size, root, [...hashes].reverse())]);
      for (const [what, answer] of refused) assert.equal(await answer, false, `${what}: ${index} of ${size}`);
    }
  }
  assert.equal(await verifyInclusion(leaves[0] as Buffer, 0, 0, leaves[0] as Buffer, []), false);
  assert.equal(await verifyInclusion(leaves[0] as Buffer, 0, 2 ** 60, leaves[0] as Buffer, []), false);
});

const origin = "zhenglian.example/log/police";
const { privateKey, publicKey } = generateKeyPairSync("ed25519");
const typed = Buffer.concat([Buffer.of(1), Buffer.from(publicKey.export({ format: "jwk" }).x ?? "", "base64url")]);
const keyHash = sha256(Buffer.from(origin + "\n"), typed).subarray(0, 4);
const verifierKey = `${origin}+${keyHash.toString("hex")}+${typed.toString("base64")}`;

function note(text: string, name = origin, hash: Uint8Array = keyHash): Buffer {
  const signature = Buffer.concat([hash, sign(null, Buffer.from(text), privateKey)]).toString("base64");
  return Buffer.from(`${text}\n— ${name} ${signature}\n`);
}

const root = sha256(Buffer.from("root"));
const checkpoint = (size: string | number = 17, head = root.toString("base64")): string => `${origin}\n${size}\n${head}\n`;

test("a checkpoint of the log's key opens", async () => {
  const got = await openCheckpoint(note(checkpoint()), origin, verifierKey);
  assert.equal(got.outcome, "pass", got.reason);
  assert.deepEqual([got.checkpoint?.size, Buffer.from(got.checkpoint?.root ?? [])], [17, root]);
  assert.equal((await openCheckpoint(note(checkpoint(0, sha256().toString("base64"))), origin, verifierKey)).outcome, "pass");
  assert.equal((await openCheckpoint(note(checkpoint(2 ** 53 - 1)), origin, verifierKey)).outcome, "pass");
});

test("every other checkpoint is refused", async () => {
  const good = note(checkpoint());
  const cases: [string, Uint8Array][] = [
    ["another log", note(checkpoint().replace("police", "civil"))],
    ["another name of the key", note(checkpoint(), "other")],
    ["another key hash", note(checkpoint(), origin, Buffer.alloc(4))],
    ["a leading zero", note(checkpoint("017"))],
    ["a sign", note(checkpoint("+17"))],
    ["a size beyond exact numbers", note(checkpoint("9007199254740992"))],
    ["a wrong root of an empty log", note(checkpoint(0))],
    ["a short root", note(checkpoint(17, root.subarray(1).toString("base64")))],
    ["a root without padding", note(checkpoint(17, root.toString("base64").replace("=", "")))],
    ["a fourth line", note(checkpoint() + "extension\n")],
    ["no newline at the end", good.subarray(0, -1)],
    ["a second signature", Buffer.concat([good, good.subarray(good.indexOf("—"))])],
    ["carriage returns", Buffer.from(good.toString().replace(/\n/g, "\r\n"))],
    ["too long", note("x".repeat(5000))],
    ["nothing", new Uint8Array()],
    ["no UTF-8", new Uint8Array(100).fill(0xff)],
  ];
  for (const [name, data] of cases) assert.equal((await openCheckpoint(data, origin, verifierKey)).outcome, "fail", name);
  for (let i = 0; i < 8 * good.length; i++) {
    const flipped = Buffer.from(good);
    flipped[i >> 3] = (flipped[i >> 3] as number) ^ (1 << (i & 7));
    assert.equal((await openCheckpoint(flipped, origin, verifierKey)).outcome, "fail", `bit ${i}`);
  }
  for (const key of [verifierKey.toUpperCase(), verifierKey.replace("+", "++"), verifierKey + "=", verifierKey.slice(0, -4), "x" + verifierKey, ""]) {
    assert.equal((await openCheckpoint(good, origin, key)).outcome, "fail", key);
  }
});

test("a browser without Ed25519 cannot check, and says so", async () => {
  const importKey = crypto.subtle.importKey.bind(crypto.subtle) as (...args: unknown[]) => Promise<CryptoKey>;
  const without = mock.method(crypto.subtle, "importKey", (...args: unknown[]) =>
    args[2] === "Ed25519" ? Promise.reject(new DOMException("no such algorithm", "NotSupportedError")) : importKey(...args),
  );
  try {
    const got = await openCheckpoint(note(checkpoint()), origin, verifierKey);
    assert.deepEqual([got.outcome, got.checkpoint], ["", undefined]);
    assert.match(got.reason, /no Ed25519/);
  } finally {
    without.mock.restore();
  }
});

test("a recorded access record is in the log that a recorded anchor fixes", async () => {
  const file = (name: string): Buffer => readFileSync(join(testdata, "recorded", name));
  const trust = file("consortium.json");
  const leaf = await leafHash(file("access-record.json"));
  const inclusion = file("access-record.tlog-proof").toString();
  const headEnd = inclusion.indexOf("\n\n");
  const [format, index = "", ...hashes] = inclusion.slice(0, headEnd).split("\n");
  assert.equal(format, "c2sp.org/tlog-proof@v1");
  const note = Buffer.from(inclusion.slice(headEnd + 2));

  const verdict = await verify(file("access-record-anchor.zlproof"), trust);
  assert.equal(verdict.overall, "recorded", verdict.reason);
  const anchor = JSON.parse(verdict.statement?.record ?? "{}") as { owner: string; checkpoint: string };
  assert.equal(anchor.checkpoint, note.toString());
  const { departments } = JSON.parse(trust.toString()) as { departments: { code: string; logOrigin: string; logKey: string }[] };
  const owner = departments.find(({ code }) => code === anchor.owner);
  assert.ok(owner);
  const { checkpoint, reason } = await openCheckpoint(note, owner.logOrigin, owner.logKey);
  assert.ok(checkpoint, reason);
  const path = hashes.map((hash) => Buffer.from(hash, "base64"));
  const at = Number(index.replace("index ", ""));
  assert.ok(await verifyInclusion(leaf, at, checkpoint.size, checkpoint.root, path));
  assert.ok(!(await verifyInclusion(await leafHash(file("access-record.tlog-proof")), at, checkpoint.size, checkpoint.root, path)));
  assert.ok(!(await verifyInclusion(leaf, at + 1, checkpoint.size, checkpoint.root, path)));
});
