import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { verify, type Verdict } from "../src/index.js";
import { readVectors, testdata } from "./vectors.js";

const command = fileURLToPath(new URL("../src/cli.js", import.meta.url));
const file = (name: string): string => join(testdata, "vectors", name + ".zlproof");
const trust = join(testdata, "trust", "consortium.json");
const now = "2026-03-02T01:30:00.123Z";

function run(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, ...args], { encoding: "utf8" });
  return { code: status, out: stdout, err: stderr };
}

test("exit codes and words", () => {
  const cases: [string[], number, RegExp, RegExp][] = [
    [[file("valid-four-of-four"), "--trust", trust, "--now", now], 0, /^valid: /, /^$/],
    [[file("revoked"), "--trust", trust, "--now", now], 0, /^revoked: /, /^$/],
    [[file("not-found"), "--trust", trust, "--now", now], 0, /^not_found: /, /^$/],
    [[file("high-s"), "--trust", trust, "--now", now], 3, /^bad_proof: /, /proof refused: .*high S/],
    [[file("valid-four-of-four"), "--trust", trust], 4, /^cannot_check: /, /cannot check: .*ask for a new proof/],
    [[file("valid-four-of-four"), "--trust", trust, "--now", "yesterday"], 4, /^cannot_check: /, /RFC 3339/],
    [[file("valid-four-of-four"), "--trust", trust, "--now", now, "--nonce", "f".repeat(32)], 3, /^bad_proof: /, /another nonce/],
    [[file("valid-four-of-four"), "--trust", trust, "--now", now, "--check-code", "WRONG"], 3, /^valid: /, /check code is not this certificate's/],
    [[file("recorded"), "--trust", trust, "--now", now, "--check-code", "WRONG"], 4, /^recorded: /, /not about a certificate/],
    [[file("valid-four-of-four"), "--trust", file("revoked"), "--now", now], 4, /^cannot_check: /, /unusable/],
    [[file("no such file"), "--trust", trust], 1, /^$/, /no such file/],
    [[file("revoked")], 2, /^$/, /--trust is needed/],
    [["--nonsense"], 2, /^$/, /usage:/],
    [["--help"], 0, /^usage:/, /^$/],
  ];
  for (const [args, code, out, err] of cases) {
    const got = run(...args);
    assert.equal(got.code, code, args.join(" ") + got.err);
    assert.match(got.out, out);
    assert.match(got.err, err);
  }
});

test("--json prints the whole verdict", async () => {
  const got = run(file("valid-four-of-four"), "--trust", trust, "--now", now, "--json");
  const vector = readVectors().find((v) => v.name === "valid-four-of-four");
  assert.ok(vector);
  assert.deepEqual(JSON.parse(got.out), { ...(await verify(vector.bundle, vector.trust, { at: now })), checkCode: "" });
});

test("--stdin answers every line, in order", async () => {
  const vectors = readVectors();
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
  const lines = vectors.map((v) => JSON.stringify({ bundle: base64(v.bundle), anchors: base64(v.trust), options: v.options }));
  lines.splice(1, 0, "no JSON", "{}");
  const child = spawn(process.execPath, [command, "--stdin"], { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.end(lines.join("\n") + "\n");
  let out = "";
  for await (const chunk of child.stdout.setEncoding("utf8")) out += String(chunk);
  const answers = out.trimEnd().split("\n").map((line) => JSON.parse(line) as Verdict & { error?: string });
  assert.equal(answers.length, lines.length);
  const errors = answers.splice(1, 2);
  assert.ok(errors.every(({ error }) => error?.startsWith("not a job")));
  answers.forEach((answer, i) => assert.equal(answer.overall, vectors[i]?.expect, vectors[i]?.name));
});
