import { digestOf } from "./hash.js";
import { parseText, type Shape, type Value } from "./json.js";
import { refuse, Undecidable } from "./refusal.js";
import * as shapes from "./shapes.gen.js";
import type { Instant } from "./time.js";

/** What every record begins with. */
interface Meta {
  department: string;
  digest: string;
}

/** How the records of one kind are read. */
interface Kind {
  /** The only schema that this release knows. */
  schema: string;
  read(json: string): Meta;
  /** Whether the record is the one under this id: the part of its ledger key after the first "~". */
  named(record: Meta, id: string): boolean;
  /** Its status at a time; "" when the kind has none. */
  status(record: Meta, at: Instant): string;
}

/** A record that is whole, and the one asked for. */
export interface LedgerRecord {
  /** The department that made it as it stands. */
  department: string;
  status(at: Instant): string;
}

function kind<S extends Shape<Meta>>(
  schema: string,
  shape: S,
  idOf: (record: Value<S>) => string,
  status: (record: Value<S>, at: Instant) => string = () => "",
): Kind {
  return {
    schema: "zhenglian/" + schema,
    read: (json) => parseText(json, shape),
    named: (record, id) => idOf(record as Value<S>) === id,
    status: (record, at) => status(record as Value<S>, at),
  };
}

const join = (...parts: (string | bigint)[]): string => parts.join("~");

/** Every kind of record. */
export const kinds: ReadonlyMap<string, Kind> = new Map(
  Object.entries({
    department: kind("department/1", shapes.Department, (r) => r.code),
    members: kind("members/1", shapes.Members, () => "all"),
    calendar: kind("calendar/1", shapes.Calendar, (r) => join(r.year)),
    calendar_version: kind("calendar/1", shapes.Calendar, (r) => join(r.year, r.version)),
    rule: kind("deadline-rule/1", shapes.DeadlineRule, (r) => r.event),
    rule_version: kind("deadline-rule/1", shapes.DeadlineRule, (r) => join(r.event, r.version)),
    catalog: kind("catalog-entry/1", shapes.CatalogEntry, (r) => r.content.code, (r) => r.state),
    catalog_version: kind("catalog-version/1", shapes.CatalogVersion, (r) => join(r.content.code, r.version)),
    catalog_event: kind("catalog-event/1", shapes.CatalogEvent, (r) => join(r.txId, r.provider)),
    request: kind("share-request/1", shapes.ShareRequest, (r) => r.content.id, requestStatus),
    request_event: kind("request-event/1", shapes.RequestEvent, (r) => join(r.requestId, r.seq)),
    grant: kind("grant/1", shapes.Grant, (r) => r.id, grantStatus),
    grant_event: kind("grant-event/1", shapes.GrantEvent, (r) => join(r.grantId, r.seq)),
    operation: kind("operation/1", shapes.Operation, (r) => join(r.department, r.operation)),
    log: kind("access-log/1", shapes.LogRegistration, (r) => r.owner),
    anchor: kind("anchor/1", shapes.Anchor, (r) => join(r.owner, r.size)),
    alarm: kind("alarm/1", shapes.Alarm, (r) => r.id, (r) => r.state),
    alarm_event: kind("alarm-event/1", shapes.AlarmEvent, (r) => join(r.alarmId, r.seq)),
    issuer: kind("authorisation/1", shapes.Authorisation, (r) => join(r.issuer, r.typeCode), authorisationStatus),
    certificate: kind("certificate/1", shapes.Certificate, (r) => r.content.ref, certificateStatus),
    certificate_id: kind("certificate-id/1", shapes.IssuedID, (r) => r.certId),
    issuing_batch: kind("issuing-batch/1", shapes.IssuingBatch, (r) => r.content.id),
    batch_status: kind("batch-status/1", shapes.BatchStatus, (r) => r.batch),
    status_places: kind("status-places/1", shapes.StatusPlaces, (r) => join(r.issuer, r.number)),
  }),
);

/**
 * Reads the record in a statement and checks that it is whole and the one asked
 * for. A record in another release's schema is undecidable.
 */
export async function readRecord(kindName: string, id: string, json: string): Promise<LedgerRecord> {
  const kind = kinds.get(kindName);
  // The name is looked at before the rest: another schema may have other fields.
  const schema = /^\{"schema":"([^"]*)/.exec(json)?.[1];
  if (kind === undefined || schema !== kind.schema) throw new Undecidable("the record is in a schema that this release does not know");
  const record = kind.read(json);
  if (!kind.named(record, id)) refuse("the record is not the one asked for");
  if (!(await digestHolds(json, record.digest))) refuse("the record does not match its digest");
  return { department: record.department, status: (at) => kind.status(record, at) };
}

async function digestHolds(json: string, digest: string): Promise<boolean> {
  const field = '"digest":"';
  // The digest is among the fields that open every record, so the first match is it.
  const at = json.indexOf(field + digest + '"');
  if (at < 0) return false;
  const rest = json.slice(at + field.length + digest.length);
  return digest === (await digestOf(json.slice(0, at) + field + rest));
}

function requestStatus(r: Value<typeof shapes.ShareRequest>, at: Instant): string {
  const waits = r.state === "accepted" || r.state === "extended" || r.state === "mediated";
  const overdue = r.clock !== null && r.clock.stoppedAt === null && at >= r.clock.dueAt;
  return waits && overdue ? "overdue" : r.state;
}

function grantStatus(r: Value<typeof shapes.Grant>, at: Instant): string {
  if (r.state !== "active") return r.state;
  if (at < r.period.from) return "pending";
  return at < r.period.to ? "active" : "expired";
}

function authorisationStatus(r: Value<typeof shapes.Authorisation>, at: Instant): string {
  if (r.state === "ended" && at >= r.txTime) return "ended";
  if (at < r.period.from) return "pending";
  return at < r.period.to ? "active" : "expired";
}

function certificateStatus(r: Value<typeof shapes.Certificate>, at: Instant): string {
  // What was never issued has no history.
  if (r.status === "proposed" || r.status === "rejected") return r.status;
  // The last change that had taken effect; they are in the order in which they were decided.
  const change = [...r.changes].reverse().find(({ since }) => at >= since);
  if (change === undefined) return "not_yet_valid";
  if (change.status !== "valid") return change.status; // outlasts the period
  if (at < r.content.validity.from) return "not_yet_valid";
  return at < r.content.validity.to ? "valid" : "expired";
}
