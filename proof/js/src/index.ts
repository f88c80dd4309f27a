/**
 * Checks a Zhenglian proof file (`zhenglian-proof/1`) in a browser or in Node.js:
 * bytes and a trust file in, a typed verdict out.
 *
 * @packageDocumentation
 */
export { loadAnchors, type Anchors, type Department } from "./anchors.js";
export { maxBundleBytes } from "./bundle.js";
export { checkCodeMatches } from "./checkcode.js";
export { credentialIsOf, verifyCredential, type Credential, type CredentialVerdict, type Item } from "./credential.js";
export { openCheckpoint, type Checkpoint, type CheckpointVerdict } from "./checkpoint.js";
export { leafHash, verifyInclusion } from "./merkle.js";
export { overalls, questions, type Check, type Options, type Outcome, type Overall, type Policy, type Question, type Statement, type Verdict } from "./verdict.js";
export { verify, verifyWith } from "./verify.js";
