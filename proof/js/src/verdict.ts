/** The answer to one question; "" is unknown: not asked, not reached, or not to be decided here. */
export type Outcome = "" | "pass" | "fail";

/**
 * The checks, in the order in which they are asked.
 *
 * - integrity: canonical, complete, one proposal, one answer, matching hashes
 * - quorum: enough distinct departments' peers signed exactly this answer
 * - scope: the right channel, chaincode, version and transaction; nothing written
 * - freshness: the answer speaks for the time asked about, and carries the nonce asked for
 * - status: what the record's status was
 */
export const questions = ["integrity", "quorum", "scope", "freshness", "status"] as const;

export type Question = (typeof questions)[number];

/** The one-word verdict. Recorded is that of a record without a status of its own here, such as a catalog entry. */
export type Overall =
  | "cannot_check"
  | "bad_proof"
  | "not_found"
  | "recorded"
  | "valid"
  | "revoked"
  | "expired"
  | "not_yet_valid";

/** The answer to one question. */
export interface Check {
  question: Question;
  outcome: Outcome;
  /** One line of English. */
  reason: string;
}

/** What the departments signed: what the ledger held under one name at asOf. */
export interface Statement {
  schema: string;
  channel: string;
  kind: string;
  id: string;
  nonce: string;
  found: boolean;
  /** The record's status at asOf; "" when the kind has none. */
  status: string;
  /** RFC 3339, UTC. */
  asOf: string;
  /** RFC 3339, UTC. */
  validUntil: string;
  /** The stored record, canonical JSON; "" when not found. */
  record: string;
}

/** What verification found. */
export interface Verdict {
  overall: Overall;
  /** One line: why the overall verdict is what it is. */
  reason: string;
  checks: Check[];
  /** Absent unless integrity, quorum and scope passed: nothing unsigned is ever shown. */
  statement?: Statement;
  /** Departments whose signatures hold, sorted; null unless quorum passed. */
  signers: string[] | null;
}

/** What a verdict must speak about. Without any, only what the ledger held when the departments signed. */
export interface Options {
  /** The verifier's present, RFC 3339 or a Date; absent or "": freshness is not judged. */
  at?: string | Date;
  /** The nonce that the verifier chose; absent or "" when it did not ask for the proof itself. */
  nonce?: string;
}
