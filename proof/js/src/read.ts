import { concat, hex, type Bytes } from "./bytes.js";
import { sha256 } from "./hash.js";
import { parseIdentity } from "./identity.js";
import { Refusal, refuse } from "./refusal.js";
import { second, type Instant } from "./time.js";
import { Message, type Fields } from "./wire.js";

// The messages of a signed read, with the field numbers of Fabric's .proto files.
// A field that is missing here never occurs in a signed read and is refused.

const proposalFields: Fields = { 1: { kind: "bytes" }, 2: { kind: "bytes" } };
const headerFields: Fields = { 1: { kind: "bytes" }, 2: { kind: "bytes" } };
const channelHeaderFields: Fields = {
  1: { kind: "number" }, // type
  3: { kind: "message" }, // timestamp
  4: { kind: "text" }, // channel_id
  5: { kind: "text" }, // tx_id
  7: { kind: "bytes" }, // extension
  8: { kind: "bytes" }, // tls_cert_hash
};
const timestampFields: Fields = { 1: { kind: "number" }, 2: { kind: "number" } };
const headerExtensionFields: Fields = { 2: { kind: "message" } };
const chaincodeIDFields: Fields = { 2: { kind: "text" }, 3: { kind: "text" } };
const signatureHeaderFields: Fields = { 1: { kind: "bytes" }, 2: { kind: "bytes" } };
// No transient map: the hash that peers sign does not cover it.
const payloadFields: Fields = { 1: { kind: "bytes" } };
const invocationFields: Fields = { 1: { kind: "message" } };
const specificationFields: Fields = { 2: { kind: "message" }, 3: { kind: "message" } };
const inputFields: Fields = { 1: { kind: "bytes", repeated: true } };

const responsePayloadFields: Fields = { 1: { kind: "bytes" }, 2: { kind: "bytes" } };
const actionFields: Fields = { 1: { kind: "bytes" }, 2: { kind: "bytes" }, 3: { kind: "message" }, 4: { kind: "message" } };
const responseFields: Fields = { 1: { kind: "number" }, 2: { kind: "text" }, 3: { kind: "bytes" } };
const readWriteSetFields: Fields = { 2: { kind: "message", repeated: true } };
const namespaceFields: Fields = { 1: { kind: "text" }, 2: { kind: "bytes" }, 3: { kind: "message", repeated: true } };
const keyValueSetFields: Fields = {
  1: { kind: "message", repeated: true }, // reads
  2: { kind: "message", repeated: true }, // range_queries_info
  3: { kind: "message", repeated: true }, // writes
  4: { kind: "message", repeated: true }, // metadata_writes
};
const keyReadFields: Fields = { 1: { kind: "text" }, 2: { kind: "message" } };
const versionFields: Fields = { 1: { kind: "number" }, 2: { kind: "number" } };
const rangeQueryFields: Fields = {
  1: { kind: "text" }, // start_key
  2: { kind: "text" }, // end_key
  3: { kind: "number" }, // itr_exhausted
  4: { kind: "message" }, // raw_reads
  5: { kind: "message" }, // reads_merkle_hashes
};
const queryReadsFields: Fields = { 1: { kind: "message", repeated: true } };
const merkleSummaryFields: Fields = { 1: { kind: "number" }, 2: { kind: "number" }, 3: { kind: "bytes", repeated: true } };

/** The end of the year 9999, beyond which RFC 3339 has no form. */
const maxSeconds = 253402300799n;

/** What the asker sent. */
export interface Proposal {
  headerType: bigint;
  time: Instant;
  channel: string;
  /** Named by the channel header, and by the invocation. */
  chaincodes: [string, string];
  /** A chaincode version was asked for. Peers ignore it; nobody should read something into it. */
  versioned: boolean;
  args: Bytes[];
  /** SHA-256 as peers compute it. */
  hash: Bytes;
}

/** What a transaction did to one chaincode's state. */
export interface Namespace {
  name: string;
  /** Values and key metadata written. */
  writes: number;
  /** Private data collections touched. */
  collections: number;
}

/** What the peers signed. */
export interface Answer {
  proposalHash: Bytes;
  chaincode: string;
  version: string;
  status: bigint;
  message: string;
  payload: Bytes;
  events: Bytes;
  namespaces: Namespace[];
}

/** Reads a peer.Proposal and checks that its transaction ID is that of its nonce and creator. */
export async function parseProposal(data: Bytes): Promise<Proposal> {
  const outer = new Message("proposal", data, proposalFields);
  const header = new Message("header", outer.bytes(1), headerFields);
  const channel = new Message("channel header", header.bytes(1), channelHeaderFields);
  if (!channel.has(3)) refuse("channel header: no timestamp");
  const time = parseTimestamp(channel.bytes(3));
  const extension = new Message("chaincode header extension", channel.bytes(7), headerExtensionFields);
  const named = new Message("chaincode ID", extension.bytes(2), chaincodeIDFields);
  const tlsHash = channel.bytes(8).length;
  if (tlsHash !== 0 && tlsHash !== 32) refuse("channel header: a TLS certificate hash of another length than 32 bytes");

  const signature = new Message("signature header", header.bytes(2), signatureHeaderFields);
  const creator = signature.bytes(1);
  const nonce = signature.bytes(2);
  if (nonce.length === 0) refuse("signature header: no nonce");
  const { certificate } = parseIdentity(creator);

  const payload = new Message("chaincode proposal payload", outer.bytes(2), payloadFields);
  const invocation = new Message("chaincode invocation", payload.bytes(1), invocationFields);
  const specification = new Message("chaincode specification", invocation.bytes(1), specificationFields);
  const invoked = new Message("chaincode ID", specification.bytes(2), chaincodeIDFields);
  const input = new Message("chaincode input", specification.bytes(3), inputFields);

  if (channel.text(5) !== hex(await sha256(concat(nonce, creator)))) refuse("the transaction ID is not that of this nonce and creator");
  // Nothing is verified with the creator's key; one that is no key at all is refused with the rest of the form.
  await certificate.checkKey();
  return {
    headerType: channel.number(1),
    time,
    channel: channel.text(4),
    chaincodes: [named.text(2), invoked.text(2)],
    versioned: named.has(3) || invoked.has(3),
    args: input.all(1),
    hash: await sha256(concat(header.bytes(1), header.bytes(2), outer.bytes(2))),
  };
}

function parseTimestamp(data: Bytes): Instant {
  const timestamp = new Message("timestamp", data, timestampFields);
  const seconds = timestamp.number(1);
  const nanos = timestamp.number(2);
  if (seconds > maxSeconds || nanos >= second) refuse("timestamp: out of range");
  return seconds * second + nanos;
}

/** Reads a peer.ProposalResponsePayload. */
export function parseAnswer(data: Bytes): Answer {
  const outer = new Message("proposal response", data, responsePayloadFields);
  const action = new Message("chaincode action", outer.bytes(2), actionFields);
  const response = new Message("response", action.bytes(3), responseFields);
  const id = new Message("chaincode ID", action.bytes(4), chaincodeIDFields);
  return {
    proposalHash: outer.bytes(1),
    chaincode: id.text(2),
    version: id.text(3),
    status: response.number(1),
    message: response.text(2),
    payload: response.bytes(3),
    events: action.bytes(2),
    namespaces: parseReadWriteSet(action.bytes(1)),
  };
}

// Writes are counted, not read: a signed read has none.
function parseReadWriteSet(data: Bytes): Namespace[] {
  const seen = new Set<string>();
  return new Message("read-write set", data, readWriteSetFields).all(2).map((item) => {
    const namespace = new Message("namespace", item, namespaceFields);
    const set = new Message("key-value set", namespace.bytes(2), keyValueSetFields);
    set.all(1).forEach(checkRead);
    set.all(2).forEach(checkRangeQuery);
    const name = namespace.text(1);
    if (seen.has(name)) throw new Refusal("read-write set: a namespace occurs twice");
    seen.add(name);
    return { name, writes: set.all(3).length + set.all(4).length, collections: namespace.all(3).length };
  });
}

function checkRead(data: Bytes): void {
  const read = new Message("read", data, keyReadFields);
  new Message("version", read.bytes(2), versionFields);
}

function checkRangeQuery(data: Bytes): void {
  const query = new Message("range query", data, rangeQueryFields);
  if (query.number(3) > 1n) refuse("range query: not a truth value");
  if (query.has(4) && query.has(5)) refuse("range query: two results");
  new Message("range query reads", query.bytes(4), queryReadsFields).all(1).forEach(checkRead);
  const summary = new Message("range query summary", query.bytes(5), merkleSummaryFields);
  if (summary.number(1) >> 32n || summary.number(2) >> 32n) refuse("range query summary: out of range");
}
