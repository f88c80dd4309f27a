import assert from "node:assert/strict";
import { test } from "node:test";

import { credentialIsOf, verifyCredential, verifyWith, type Credential } from "../src/index.js";
import { positive } from "./vectors.js";

// What it reads and refuses is compared with the Go verifier in gateway/credential,
// where credentials are made. Here: whatever it is given, it answers.
test("whatever is no credential is refused, and what cannot be decided is not", async () => {
  const { trust } = await positive("valid-three-of-four");
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const hostile: unknown[] = [
    "", "~", "..~", "eyJ~", "e30.e30.AAAA~", `${part({ alg: "ES256", typ: "dc+sd-jwt", x5c: ["AAAA"] })}.e30.AAAA~`,
    `${part({ alg: "ES256", typ: "dc+sd-jwt", x5c: [] })}.e30.AAAA~`, `${part([])}.${part(null)}.AAAA~`, "~".repeat(1 << 20), "a.b.c~" + "W10~".repeat(999),
    undefined, null, 7, {}, new Uint8Array(9),
  ];
  for (const text of hostile) {
    const got = await verifyCredential(text as string, trust);
    assert.deepEqual([got.outcome, got.credential], ["fail", undefined], String(text).slice(0, 60));
    assert.notEqual(got.reason, "");
  }
  for (const file of [new Uint8Array(), trust.subarray(1), undefined]) {
    assert.equal((await verifyCredential("e30.e30.AAAA~", file as Uint8Array)).outcome, "");
  }
});

test("a credential belongs to a proven certificate of its reference alone", async () => {
  const { bundle, anchors } = await positive("valid-three-of-four");
  const { statement } = await verifyWith(bundle, anchors);
  assert.ok(statement);
  const { ref, contentDigest } = (JSON.parse(statement.record) as { content: { ref: string; contentDigest: string } }).content;
  const credential = { ref, digest: contentDigest } as Credential;
  assert.ok(credentialIsOf(credential, statement));
  const others: [Credential, typeof statement][] = [
    [{ ...credential, digest: contentDigest.replace(/^./, "g") }, statement],
    [{ ...credential, ref: "0".repeat(32) }, statement],
    [credential, { ...statement, found: false }],
    [credential, { ...statement, kind: "grant" }],
    [credential, { ...statement, record: "{}" }],
  ];
  for (const [c, s] of others) assert.ok(!credentialIsOf(c, s));
});
