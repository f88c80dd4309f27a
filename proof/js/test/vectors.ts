import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { loadAnchors, overalls, type Anchors, type Options, type Overall, type Policy, type Question } from "../src/index.js";

/** A published test vector: what a verifier must answer to the bundle of the same name. */
export interface Vector {
  name: string;
  expect: Overall;
  /** The one that fails; "" when none does. */
  question: Question | "";
  bundle: Uint8Array;
  trust: Uint8Array;
  options: Options;
}

/** The published vectors' folder, found from wherever the tests are compiled to. */
export const testdata = find(dirname(fileURLToPath(import.meta.url)));

function find(from: string): string {
  const here = join(from, "testdata", "vectors");
  if (existsSync(here)) return dirname(here);
  if (dirname(from) === from) throw new Error("no testdata/vectors above the tests");
  return find(dirname(from));
}

export function readVectors(): Vector[] {
  const files = readdirSync(join(testdata, "vectors")).filter((file) => file.endsWith(".json"));
  return files.sort().map((file) => {
    const name = file.slice(0, -".json".length);
    const { policy, ...v } = JSON.parse(readFileSync(join(testdata, "vectors", file), "utf8")) as Record<string, string> & { policy?: Policy };
    const { comment, expect = "", question = "", at = "", statusAt = "", nonce = "", trust = "", ...unknown } = v as Record<string, string>;
    const known = (overalls as readonly string[]).includes(expect);
    if (comment === undefined || Object.keys(unknown).length > 0 || !known) throw new Error(file + " is no vector of this form");
    return {
      name,
      expect: expect as Overall,
      question: question as Question | "",
      bundle: readFileSync(join(testdata, "vectors", name + ".zlproof")),
      trust: readFileSync(join(testdata, "trust", trust)),
      options: policy === undefined ? { at, statusAt, nonce } : { at, statusAt, nonce, policy },
    };
  });
}

/** A vector whose proof holds, with its anchors read. */
export async function positive(name: string): Promise<Vector & { anchors: Anchors }> {
  const vector = readVectors().find((v) => v.name === name);
  if (vector === undefined) throw new Error("no vector " + name);
  return { ...vector, anchors: await loadAnchors(vector.trust) };
}

export const isRefusal = (overall: Overall): boolean => overall === "bad_proof" || overall === "cannot_check";

/** What verify says when it meets something that it did not foresee: never to be seen. */
export const unforeseen = "this program failed: neither confirmed nor refuted";
