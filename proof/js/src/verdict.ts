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

/**
 * The one-word verdict. Recorded is that of a record of another kind than a
 * certificate, those behind it are a certificate's. Not found is also the verdict
 * of a certificate that was proposed or rejected, and never issued.
 */
export const overalls = [
  "cannot_check",
  "bad_proof",
  "not_found",
  "recorded",
  "valid", // 有效
  "not_yet_valid", // 未到生效日
  "suspended", // 暂扣
  "revoked", // 撤销
  "withdrawn", // 吊销
  "cancelled", // 注销
  "superseded", // 已被替代
  "expired", // 已过有效期
] as const;

export type Overall = (typeof overalls)[number];

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
  /**
   * The time whose status is asked; absent or "": at, or else the statement's asOf.
   * An earlier time than asOf has the status that the record gives it as known at
   * asOf: an act decided later may still reach back.
   */
  statusAt?: string | Date;
  /** The nonce that the verifier chose; absent or "" when it did not ask for the proof itself. */
  nonce?: string;
  policy?: Policy;
}

/** What a verifier demands of the signers beyond the trust file. It only narrows: the quorum of the file holds in any case. */
export interface Policy {
  /** Distinct departments that must have signed. */
  quorum?: number;
  /** Codes of departments, each of which must have signed. */
  departments?: readonly string[] | null;
  /**
   * The department that made the record as it stands, of a certificate its issuer:
   * "" counts its signature like any other, "included" demands it, "excluded"
   * demands as many of others.
   */
  issuer?: "" | "included" | "excluded";
}
