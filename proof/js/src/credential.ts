import { loadAnchors, type Anchors, type Department } from "./anchors.js";
import { fromBase64, fromBase64URL } from "./base64.js";
import { fromUTF8, utf8, type Bytes } from "./bytes.js";
import { Certificate } from "./certificate.js";
import { authoritiesOf, checkIssued, inForce } from "./chain.js";
import { noWebCrypto } from "./checkpoint.js";
import { roles } from "./endorsements.js";
import { digestOf, sha256 } from "./hash.js";
import { parseText } from "./json.js";
import { Refusal, refuse } from "./refusal.js";
import { Certificate as CertificateRecord } from "./shapes.gen.js";
import { checkLowS, holds } from "./signature.js";
import { second } from "./time.js";
import type { Outcome, Statement } from "./verdict.js";

// The bounds of a credential.
const maxBytes = 1 << 19;
const maxItems = 60;
const maxName = 100; // characters
const maxValue = 1000;

const saltBytes = 16;
const issuingUnit = "issuing";

/** A face item 照面信息项. */
export interface Item {
  name: string;
  value: string;
}

/** What a certificate's credential (SD-JWT, RFC 9901) says, all of it signed by its issuer. */
export interface Credential {
  /** Code of the department that issued it. */
  issuer: string;
  /** Reference of the certificate. */
  ref: string;
  certId: string;
  typeNameZh: string;
  typeNameEn: string;
  /** The face items that are disclosed, in their order. */
  items: Item[];
  /** How many more there may be. */
  withheld: number;
  /** What is disclosed to those who have the check code: items whole or masked. */
  byCode: Item[];
  /** What the ledger must hold of it: see credentialIsOf. */
  digest: string;
}

/** The answer about a credential. */
export interface CredentialVerdict {
  /** "" when this browser or the trust file cannot decide. */
  outcome: Outcome;
  /** One line of English; it quotes nothing of the credential. */
  reason: string;
  /** Present when the outcome is "pass". */
  credential?: Credential;
}

/**
 * Checks that a department of the trust file signed a credential with a key that
 * its CA certified for issuing, and that whatever the credential discloses is what
 * was signed. It trusts the trust file and nothing in the credential. Whether the
 * certificate is valid the credential cannot say: prove its ledger record with
 * verify, and compare the two with credentialIsOf. It never rejects.
 *
 * Stricter than RFC 9901: JSON is compact, as JSON.stringify writes it, members and
 * disclosures are those of the form and no others, and the disclosures stand in the
 * order of their digests.
 */
export async function verifyCredential(unverifiedText: string, anchorsFile: Uint8Array): Promise<CredentialVerdict> {
  if (globalThis.crypto?.subtle === undefined) return { outcome: "", reason: noWebCrypto };
  let anchors: Anchors;
  try {
    anchors = await loadAnchors(new Uint8Array(anchorsFile));
  } catch {
    return { outcome: "", reason: "the trust anchors are unusable" };
  }
  try {
    return { outcome: "pass", reason: "the issuer's signature holds", credential: await read(String(unverifiedText), anchors) };
  } catch (error) {
    if (error instanceof Refusal) return { outcome: "fail", reason: error.message };
    return { outcome: "", reason: "this program failed: neither confirmed nor refuted" };
  }
}

/** Whether a credential is that of the certificate in a statement that verify has proven: the ledger holds its digest. */
export function credentialIsOf(credential: Credential, statement: Statement): boolean {
  if (!statement.found || statement.kind !== "certificate" || statement.id !== credential.ref) return false;
  try {
    return parseText(statement.record, CertificateRecord).content.contentDigest === credential.digest;
  } catch {
    return false; // no statement of verify's
  }
}

async function read(text: string, anchors: Anchors): Promise<Credential> {
  if (text.length > maxBytes) refuse("the credential is too long");
  const [jwt = "", ...disclosures] = text.split("~");
  if (disclosures.pop() !== "" || disclosures.length > 2 * maxItems) refuse("the credential is not of the form JWT~disclosure~…~");
  const [header = "", body = "", signed = "", ...more] = jwt.split(".");
  if (more.length > 0) refuse("the signed part has not three sections");
  const signature = decode(signed);
  const certificate = readHeader(decode(header));
  const payload = readPayload(decode(body));
  const department = anchors.departments.find((d) => d.code === payload.iss) ?? refuse("the trust anchors do not name the issuer");
  if (payload.channel !== anchors.channel || payload.issuerUscc !== department.uscc) refuse("the trust anchors are of another channel, or know the issuer by another code");
  await checkIssuer(certificate, department, BigInt(payload.iat) * second);
  if (signature.length !== 64) refuse("the signature has not 64 bytes");
  checkLowS(signature);
  if (!(await holds(await certificate.verificationKey(), "SHA-256", signature, utf8(header + "." + body)))) refuse("the signature does not hold");

  const rest = await Promise.all(disclosures.map(async (d) => ({ text: d, digest: await sha256(utf8(d)) })));
  const take = (places: string[]): Item[] => {
    const items: Item[] = [];
    for (const place of places) {
      const next = rest[0];
      if (next === undefined || !same(next.digest, decode(place))) continue;
      rest.shift();
      const item = readItem(next.text);
      if (items.some(({ name }) => name === item.name)) refuse("two items have one name");
      items.push(item);
    }
    return items;
  };
  const items = take(payload.items);
  const byCode = take(payload.byCode);
  if (rest.length > 0) refuse("a disclosure belongs to no digest, or is not in the order of the digests");
  const { iss: issuer, ref, certId, typeNameZh, typeNameEn } = payload;
  return { issuer, ref, certId, typeNameZh, typeNameEn, items, withheld: payload.items.length - items.length, byCode, digest: await digestOf(jwt) };
}

async function checkIssuer(certificate: Certificate, department: Department, at: bigint): Promise<void> {
  const units = certificate.organizationalUnits;
  if (certificate.isAuthority || !certificate.maySign || !units.includes(issuingUnit)) refuse("the certificate is not for issuing");
  if (units.some((unit) => roles.includes(unit))) refuse("the certificate is for another duty too");
  if (certificate.demandsUnknown || !inForce(certificate, at)) refuse("the certificate was not in force when the credential was issued");
  await checkIssued(certificate, authoritiesOf(certificate, department, at), at);
}

type JSONObject = Record<string, unknown>;

function decode(text: string): Bytes {
  return fromBase64URL(text) ?? refuse("a part is not base64url in its one spelling");
}

function same(a: Bytes, b: Bytes): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

// Reads JSON in the one spelling that JSON.stringify has, in which no name comes twice.
function readJSON(data: Bytes): unknown {
  const text = fromUTF8(data) ?? refuse("not UTF-8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    refuse("not JSON");
  }
  if (JSON.stringify(value) !== text) refuse("JSON that is not compact, or an object with a name twice");
  return value;
}

// Checks that a value is an object of exactly these members, in any order.
function object(value: unknown, required: readonly string[], optional = ""): JSONObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) refuse("no object where one must be");
  const names = Object.keys(value).filter((name) => name !== optional);
  if (names.length !== required.length || !required.every((name) => Object.hasOwn(value, name))) refuse("a member is missing, unknown or misspelt");
  return value as JSONObject;
}

function list(value: unknown, min: number, max: number): unknown[] {
  if (!Array.isArray(value) || value.length < min || value.length > max) refuse("a list is none, or too short or long");
  return value as unknown[];
}

// What changes the direction or place of what follows does not say what it reads.
const misleading = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\p{Surrogate}]/u;

function readText(value: unknown, max: number): string {
  if (typeof value !== "string" || value === "" || [...value].length > max || misleading.test(value)) refuse("a text has not its shape");
  return value;
}

function readHeader(data: Bytes): Certificate {
  const header = object(readJSON(data), ["alg", "typ", "x5c"]);
  if (header["alg"] !== "ES256" || header["typ"] !== "dc+sd-jwt") refuse("the header names another algorithm or type");
  const [der] = list(header["x5c"], 1, 1);
  return new Certificate(fromBase64(typeof der === "string" ? der : "*") ?? refuse("x5c is not base64 in its one spelling"));
}

const claims = [
  "iss", "vct", "iat", "nbf", "exp", "channel", "ref", "certId", "typeCode", "typeNameZh", "typeNameEn", "issuerUscc", "status", "_sd_alg", "items",
] as const;
const times = ["iat", "nbf", "exp"] as const;

interface Payload extends Record<Exclude<(typeof claims)[number], "iat" | "status" | "items">, string> {
  iat: number;
  items: string[];
  byCode: string[];
}

function readPayload(data: Bytes): Payload {
  const payload = object(readJSON(data), claims, "byCode");
  if (payload["vct"] !== "zhenglian-certificate/1") refuse("vct is another form");
  if (payload["_sd_alg"] !== "sha-256") refuse("the digests are not made with sha-256");
  for (const name of times) if (!Number.isSafeInteger(payload[name]) || (payload[name] as number) <= 0) refuse("a time is none");
  if ((payload["nbf"] as number) >= (payload["exp"] as number)) refuse("the validity ends before it begins");
  for (const name of ["iss", "channel", "certId", "typeCode", "typeNameZh", "typeNameEn", "issuerUscc"]) readText(payload[name], 200);
  if (!/^[0-9a-f]{32}$/.test(readText(payload["ref"], 32))) refuse("ref is no reference");
  if (!isIdentifier(payload["certId"] as string, payload["typeCode"] as string, payload["issuerUscc"] as string)) refuse("certId is no identifier of this type and issuer");
  readStatus(payload["status"]);
  const items = readDigests(payload["items"], 1);
  const byCode = Object.hasOwn(payload, "byCode") ? readDigests(payload["byCode"], 1) : [];
  if (new Set([...items, ...byCode]).size !== items.length + byCode.length) refuse("a digest is there twice");
  return { ...(payload as unknown as Payload), items, byCode };
}

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

// Whether text is a certificate's identifier 电子证照标识 of a type and an issuer, with its check character (ISO 7064 MOD 37,36).
function isIdentifier(text: string, type: string, issuer: string): boolean {
  const [, serial, version, check] = /^([0-9A-Z]{1,64})\.([0-9]{3})\.([0-9A-Z])$/.exec(text.replace(`1.2.156.3005.2.${type}.${issuer}.`, "")) ?? [];
  let p = 36;
  for (const c of type + issuer + serial + version) p = (((p + digits.indexOf(c)) % 36 || 36) * 2) % 37;
  return check !== undefined && check === digits[(37 - p) % 36];
}

function readDigests(value: unknown, min: number): string[] {
  return list(value, min, maxItems).map((place) => {
    const digest = object(place, ["..."])["..."];
    if (typeof digest !== "string" || decode(digest).length !== 32) refuse("a digest is not 256 bits in base64url");
    return digest;
  });
}

// One entry for revocation and one for suspension, with one index.
function readStatus(value: unknown): void {
  const entries = list(object(value, ["bitstring_status_list"])["bitstring_status_list"], 2, 2).map((entry) =>
    object(entry, ["type", "statusPurpose", "statusListIndex", "statusListCredential"]),
  );
  for (const [i, purpose] of ["revocation", "suspension"].entries()) {
    const entry = entries[i] as JSONObject;
    const index = readText(entry["statusListIndex"], 20);
    const named = entry["type"] === "BitstringStatusListEntry" && entry["statusPurpose"] === purpose;
    if (!named || !/^(?:0|[1-9][0-9]*)$/.test(index) || index !== entries[0]?.["statusListIndex"]) refuse("status is not one entry for revocation and one for suspension, with one index");
    if (!/^https?:\/\/[^/#@]+[^#]*$/.test(readText(entry["statusListCredential"], 500))) refuse("a status list has no address");
  }
}

function readItem(disclosure: string): Item {
  const [salt, value] = list(readJSON(decode(disclosure)), 2, 2);
  if (typeof salt !== "string" || decode(salt).length < saltBytes) refuse("a salt is not 16 bytes or more in base64url");
  const item = object(value, ["name", "value"]);
  return { name: readText(item["name"], maxName), value: readText(item["value"], maxValue) };
}
