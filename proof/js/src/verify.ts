import { loadAnchors, maxTrustBytes, type Anchors } from "./anchors.js";
import { maxBundleBytes, parseBundle } from "./bundle.js";
import { equal } from "./bytes.js";
import { noWebCrypto } from "./checkpoint.js";
import { checkEndorsements } from "./endorsements.js";
import { hasUnknownFormat } from "./format.js";
import { parseAnswer, parseProposal } from "./read.js";
import { Refusal, Undecidable } from "./refusal.js";
import { openStatement, type Stated } from "./statement.js";
import { minute, parseTime, timeText, type Instant } from "./time.js";
import { questions, type Options, type Outcome, type Overall, type Policy, type Question, type Verdict } from "./verdict.js";

/** How far the verifier's clock may lag behind the asker's. */
const maxClockSkew = 5n * minute;

/** What the status of a certificate means. Another one is of a later release. */
const certificateVerdicts: ReadonlyMap<string, Overall> = new Map<string, Overall>([
  ...(["valid", "not_yet_valid", "suspended", "revoked", "withdrawn", "cancelled", "superseded", "expired"] as const).map((s): [string, Overall] => [s, s]),
  // What was not approved was never issued, whatever the ledger holds of it.
  ["proposed", "not_found"],
  ["rejected", "not_found"],
]);

/**
 * Checks a proof file against a trust file and answers what it proves. It trusts
 * the trust file and nothing in the bundle; it reads no clock and no network. It
 * never rejects, whatever it is given.
 *
 * Integrity, quorum and scope are asked in turn; the first that fails makes the
 * overall verdict "bad_proof" and leaves the later ones "". So does another nonce
 * than the one in options, and so do signatures that do not meet options.policy. A
 * bundle or record in an unknown format, an unusable trust file, a policy that does
 * not fit it, and a statement that does not speak for the times in options are
 * "cannot_check".
 */
export async function verify(unverifiedBundle: Uint8Array, anchorsFile: Uint8Array, options: Options = {}): Promise<Verdict> {
  // Copies, taken before the first wait: what is checked is what was given.
  const bundle = copy(unverifiedBundle, maxBundleBytes);
  const file = copy(anchorsFile, maxTrustBytes);
  return guarded(async (v) => {
    if (file === undefined) return cannotCheck(v, "no trust anchors were given");
    let anchors: Anchors;
    try {
      anchors = await loadAnchors(file);
    } catch (error) {
      if (error instanceof Refusal) return cannotCheck(v, "the trust anchors are unusable: " + error.message);
      throw error;
    }
    return check(v, bundle, anchors, options);
  });
}

/** Like verify, with anchors that loadAnchors read: for many proofs under one trust file. */
export async function verifyWith(unverifiedBundle: Uint8Array, anchors: Anchors, options: Options = {}): Promise<Verdict> {
  const bundle = copy(unverifiedBundle, maxBundleBytes);
  return guarded((v) => check(v, bundle, anchors, options));
}

// Undefined for what is no bytes, whatever its type claims. Of more than is ever
// read, a copy of as much as shows that it is too much.
function copy(bytes: unknown, max: number): Uint8Array<ArrayBuffer> | undefined {
  if (!ArrayBuffer.isView(bytes)) return undefined;
  try {
    return new Uint8Array(new Uint8Array(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, max + 1)));
  } catch {
    return undefined; // memory that was given away
  }
}

async function guarded(run: (v: Verdict) => Promise<Verdict>): Promise<Verdict> {
  const v: Verdict = {
    overall: "cannot_check",
    reason: "",
    checks: questions.map((question) => ({ question, outcome: "", reason: "not reached" })),
    signers: null,
  };
  if (globalThis.crypto?.subtle === undefined) return cannotCheck(v, noWebCrypto);
  try {
    return await run(v);
  } catch {
    // A browser that lacks or breaks something: no decision, and nothing is shown.
    delete v.statement;
    v.signers = null;
    return cannotCheck(v, "this program failed: neither confirmed nor refuted");
  }
}

async function check(v: Verdict, bundle: Uint8Array<ArrayBuffer> | undefined, anchors: Anchors, options: Options): Promise<Verdict> {
  const at = readTime(options.at);
  const statusAt = readTime(options.statusAt);
  if (at === undefined || statusAt === undefined) return cannotCheck(v, "the time to judge at is not in RFC 3339");
  const nonce = options.nonce ?? "";
  const policy = readPolicy(options.policy, anchors);
  if (typeof policy === "string") return cannotCheck(v, policy);
  if (bundle === undefined) return refused(v, "integrity", "no bytes were given");

  let question: Question = "integrity";
  try {
    const parsed = parseBundle(bundle);
    const asked = await parseProposal(parsed.proposal);
    const answered = parseAnswer(parsed.response);
    if (!equal(answered.proposalHash, asked.hash)) return refused(v, question, "the answer belongs to another proposal");
    set(v, question, "pass", "one proposal, its answer, nothing else");

    question = "quorum";
    const signers = await checkEndorsements(parsed, anchors, asked.time);
    const counted = `${signers.length} of ${anchors.departments.length} departments signed, ${policy.quorum} are required`;
    if (signers.length < policy.quorum) return refused(v, question, counted);
    const missing = policy.departments.find((code) => !signers.includes(code));
    if (missing !== undefined) return refused(v, question, "the policy requires a signature of " + missing);
    v.signers = signers;
    set(v, question, "pass", counted);

    question = "scope";
    const stated = await openStatement(asked, answered, anchors);
    const objection = objectionOf(policy, signers, stated.record?.department);
    if (objection !== "") {
      v.signers = null;
      return refused(v, "quorum", objection);
    }
    v.statement = stated.statement;
    set(v, question, "pass", `a read of ${stated.statement.kind} on channel ${stated.statement.channel}, nothing written`);
    return judge(v, stated, at, statusAt, nonce);
  } catch (error) {
    if (error instanceof Undecidable) return cannotCheck(v, error.message);
    if (!(error instanceof Refusal)) throw error;
    if (question === "integrity" && bundle.length <= maxBundleBytes && hasUnknownFormat(bundle)) {
      return cannotCheck(v, "the proof is in a format that this release does not know");
    }
    return refused(v, question, error.message);
  }
}

// A policy that can be met, its quorum at least the trust file's; or why it cannot be.
function readPolicy(given: Policy | undefined, anchors: Anchors): Required<Policy> & { departments: readonly string[] } | string {
  const { quorum = 0, departments, issuer = "" } = given ?? {};
  if (issuer !== "" && issuer !== "included" && issuer !== "excluded") return "the policy has a rule for the issuer that this release does not know";
  if (!Number.isInteger(quorum) || quorum < 0 || quorum > anchors.departments.length) return "the policy requires more signatures than there are departments";
  const named = [...(departments ?? [])];
  if (!named.every((code) => anchors.departments.some((d) => d.code === code))) return "the policy requires a department that is not among the trust anchors";
  return { quorum: Math.max(quorum, anchors.quorum), departments: named, issuer };
}

// Why signers do not meet the policy's rule for the issuer, or "". There is no issuer of what is not there.
function objectionOf({ issuer: rule, quorum }: Required<Policy>, signers: string[], issuer: string | undefined): string {
  const signed = issuer !== undefined && signers.includes(issuer);
  if (rule === "included" && !signed) return "the policy requires the issuer's signature";
  if (rule === "excluded" && signed && signers.length - 1 < quorum) return `${signers.length - 1} departments beside the issuer signed, ${quorum} are required`;
  return "";
}

// Null when no time is asked about, undefined when it is none.
function readTime(at: unknown): Instant | null | undefined {
  if (at === undefined || at === null || at === "") return null;
  if (at instanceof Date) return Number.isNaN(at.getTime()) ? undefined : BigInt(at.getTime()) * 1_000_000n;
  return typeof at === "string" ? parseTime(at) : undefined;
}

// Answers freshness and status for a statement that holds.
function judge(v: Verdict, { statement: s, asOf, validUntil, record }: Stated, present: Instant | null, asked: Instant | null, nonce: string): Verdict {
  if (nonce !== "" && s.nonce !== nonce) return refused(v, "freshness", "the answer carries another nonce than the one asked with");
  let silent = ""; // why the statement does not speak for the times asked about
  let at = asOf;
  if (present === null) {
    set(v, "freshness", "", "not asked; the statement speaks as of " + s.asOf);
  } else if (present > validUntil) {
    silent = `the statement spoke for the time until ${s.validUntil}: ask for a new proof`;
  } else if (present < asOf - maxClockSkew) {
    silent = `the statement was made at ${s.asOf}, after the time asked about: check the clock`;
  } else {
    if (present > at) at = present;
    set(v, "freshness", "pass", `made at ${s.asOf}, speaks until ${s.validUntil}`);
  }
  if (silent === "" && asked !== null) {
    at = asked;
    if (at > validUntil) silent = `the statement speaks for the time until ${s.validUntil}, not for the time whose status is asked`;
    else if (at < asOf && record !== null && s.kind !== "certificate") silent = "only a certificate's record tells of an earlier time";
  }
  if (silent !== "") {
    set(v, "freshness", "fail", silent);
    at = asOf;
  }

  let overall: Overall = "not_found";
  let reason = "the ledger held no such record at " + s.asOf;
  if (record !== null) {
    // For the same record, a later time can only mean that a period began or ended;
    // an earlier one, that a change recorded in it was still to come.
    const status = at === asOf ? s.status : record.status(at);
    overall = "recorded";
    reason = "the record is on the ledger" + (status === "" ? "" : " with status " + status);
    if (s.kind === "certificate") {
      const known = certificateVerdicts.get(status);
      if (known === undefined) return cannotCheck(v, "the certificate has a status that this release does not know");
      overall = known;
      reason = `the certificate ${at < asOf ? "was" : "is"} ${status.replace(/_/g, " ")}`;
      if (overall === "not_found") reason = `no certificate was issued: it is ${status} only`;
    }
  }
  if (at !== asOf && asked !== null) reason += " at " + timeText(at);
  if (silent !== "") {
    set(v, "status", "pass", `${reason} as of ${timeText(asOf)}`);
    return cannotCheck(v, silent);
  }
  set(v, "status", "pass", reason);
  v.overall = overall;
  v.reason = reason;
  return v;
}

function set(v: Verdict, question: Question, outcome: Outcome, reason: string): void {
  const at = questions.indexOf(question);
  v.checks[at] = { question, outcome, reason };
}

function refused(v: Verdict, question: Question, reason: string): Verdict {
  set(v, question, "fail", reason);
  v.overall = "bad_proof";
  v.reason = reason;
  return v;
}

function cannotCheck(v: Verdict, reason: string): Verdict {
  v.overall = "cannot_check";
  v.reason = reason;
  return v;
}
