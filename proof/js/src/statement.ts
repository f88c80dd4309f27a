import type { Anchors } from "./anchors.js";
import { equal, utf8 } from "./bytes.js";
import { bool, object, parseCanonical, text, time, type Value } from "./json.js";
import type { Answer, Proposal } from "./read.js";
import { kinds, readRecord, type LedgerRecord } from "./records.js";
import { Refusal, refuse } from "./refusal.js";
import { hour, timeText, type Instant } from "./time.js";
import type { Statement } from "./verdict.js";

// The only transaction whose answer is a statement.
const attest = utf8("evidence:Attest");
const statementSchema = "zhenglian/statement/1";

/** How long a statement speaks for the present. */
const statementLife = 24n * hour;

const endorserTransaction = 3n;
const statusOK = 200n;
// Every peer reads its lifecycle's state to find the chaincode's definition.
const lifecycleNamespaces = ["_lifecycle", "lscc"];

const argumentShape = object({ kind: text, id: text, nonce: text });
const statementShape = object({
  schema: text,
  channel: text,
  kind: text,
  id: text,
  nonce: text,
  found: bool,
  status: text,
  asOf: time,
  validUntil: time,
  record: text,
});

/** A statement that holds. */
export interface Stated {
  statement: Statement;
  asOf: Instant;
  validUntil: Instant;
  /** Null when the ledger held no such record. */
  record: LedgerRecord | null;
}

/**
 * Checks that the proposal asks the evidence contract of the right channel and
 * chaincode one question, that the answer is a successful one that changed
 * nothing, and that it is a statement about what was asked.
 */
export async function openStatement(asked: Proposal, answered: Answer, anchors: Anchors): Promise<Stated> {
  checkScope(asked, answered, anchors);
  const question = readQuestion(asked);
  const s = naming("the statement", () => parseCanonical(answered.payload, statementShape));
  // Peers answer in milliseconds, the finest that a record holds.
  const asOf = asked.time - (asked.time % 1_000_000n);
  if (s.schema !== statementSchema) refuse("the statement is in another schema");
  if (s.channel !== asked.channel) refuse("the statement is about another channel");
  if (s.kind !== question.kind || s.id !== question.id) refuse("the statement is about another record");
  if (s.nonce !== question.nonce) refuse("the statement's nonce is not the one asked with");
  if (s.asOf !== asOf) refuse("the statement's time is not the transaction's");
  if (s.validUntil !== asOf + statementLife) refuse("the statement's life is not 24 hours");
  if (!s.found && (s.record !== "" || s.status !== "")) refuse("the statement describes a record that was not found");
  const record = s.found ? await readRecord(s.kind, s.id, s.record) : null;
  if (record !== null && record.status(asOf) !== s.status) refuse("the status stated does not follow from the record");
  const statement = { ...s, asOf: timeText(s.asOf), validUntil: timeText(s.validUntil) };
  return { statement, asOf: s.asOf, validUntil: s.validUntil, record };
}

function checkScope(asked: Proposal, answered: Answer, anchors: Anchors): void {
  if (asked.headerType !== endorserTransaction) refuse("the proposal is not an endorser transaction");
  if (asked.channel !== anchors.channel) refuse("the proposal is for another channel");
  if ([...asked.chaincodes, answered.chaincode].some((name) => name !== anchors.chaincode)) refuse("the proposal is for another chaincode");
  if (asked.versioned) refuse("the proposal names a chaincode version");
  if (!anchors.versions.includes(answered.version)) refuse("the chaincode version is not an accepted one");
  if (answered.status !== statusOK || answered.message !== "") refuse("the answer is not a plain success");
  if (answered.events.length > 0) refuse("the transaction set an event");
  for (const { name, writes, collections } of answered.namespaces) {
    if (writes > 0) refuse("the transaction wrote");
    if (collections > 0) refuse("the transaction touched private data");
    if (name !== anchors.chaincode && !lifecycleNamespaces.includes(name)) refuse("the transaction read the state of another chaincode");
  }
}

function readQuestion(asked: Proposal): Value<typeof argumentShape> {
  const [name, argument, ...more] = asked.args;
  if (name === undefined || argument === undefined || more.length > 0 || !equal(name, attest)) {
    refuse("the transaction is not evidence:Attest with one argument");
  }
  return naming("the argument", () => {
    const question = parseCanonical(argument, argumentShape);
    if (!kinds.has(question.kind)) refuse("no kind of record");
    if (!/^[0-9A-Za-z._/~-]{1,128}$/.test(question.id)) refuse("no id of a record");
    if (!/^[0-9a-f]{32}$/.test(question.nonce)) refuse("no nonce of 32 hexadecimal digits");
    return question;
  });
}

function naming<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof Refusal ? new Refusal(`${what}: ${error.message}`) : error;
  }
}
