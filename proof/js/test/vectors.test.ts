import assert from "node:assert/strict";
import { test } from "node:test";

import { questions, verify } from "../src/index.js";
import { isRefusal, readVectors, unforeseen } from "./vectors.js";

const vectors = readVectors();

test("there are enough vectors", () => {
  const negatives = vectors.filter((v) => isRefusal(v.expect)).length;
  assert.ok(vectors.length - negatives >= 25, `only ${vectors.length - negatives} positive`);
  assert.ok(negatives >= 60, `only ${negatives} negative`);
});

for (const v of vectors) {
  test("vector " + v.name, async () => {
    const got = await verify(v.bundle, v.trust, v.options);
    assert.equal(got.overall, v.expect, got.reason);
    assert.notEqual(got.reason, unforeseen);
    assert.match(got.reason, /^[^\r\n]+$/);
    assert.deepEqual(got.checks.map((check) => check.question), questions);
    const failed = got.checks.filter((check) => check.outcome === "fail").map((check) => check.question);
    assert.deepEqual(failed, v.question === "" ? [] : [v.question], got.reason);
    if (!isRefusal(v.expect)) assert.ok(got.statement !== undefined && (got.signers?.length ?? 0) >= 3);
    if (["integrity", "quorum", "scope"].includes(v.question)) assert.equal(got.statement, undefined, "shows what was not shown to be signed");
  });
}
