import { equal, fromUTF8, utf8, type Bytes } from "./bytes.js";
import { Certificate } from "./certificate.js";
import { parseVerifierKey } from "./checkpoint.js";
import { int64, list, object, optional, parseCanonical, text, type Value } from "./json.js";
import { fromPEM } from "./pem.js";
import { Refusal, refuse } from "./refusal.js";
import { readRevocationList, type Revoker } from "./revocation.js";
import { fromDER, holds } from "./signature.js";

export const trustFormat = "zhenglian-trust/1";

/** The largest trust file that is read. */
export const maxTrustBytes = 1 << 20;

// The bounds of what it holds.
const maxDepartments = 32; // as many as a bundle may hold endorsements
const maxRoots = 8; // per department: the present authority and past ones
const maxLists = 8; // per department
const maxVersions = 64;
const maxNameCharacters = 100;

const channelPattern = /^[a-z][a-z0-9.-]{0,248}$/; // Fabric's rule
const chaincodePattern = /^[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*$/; // Fabric's rule
const versionPattern = /^[A-Za-z0-9_.+-]{1,64}$/; // Fabric's rule
const codePattern = /^[a-z][a-z0-9]{1,19}$/;
const mspIDPattern = /^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$/;

const departmentShape = object({
  code: text,
  mspId: text,
  nameZh: text,
  nameEn: text,
  uscc: text,
  caRoots: list(text),
  logOrigin: text,
  logKey: text,
  crls: optional(list(text)),
});
const anchorsShape = object({
  format: text,
  channel: text,
  chaincode: text,
  versions: list(text),
  quorum: int64,
  departments: list(departmentShape),
});

/** A certificate authority of a department, with what it has revoked. */
export type Root = Revoker;

/** A department of the consortium, as the trust file names it. */
export interface Department {
  readonly code: string;
  readonly mspId: string;
  readonly nameZh: string;
  readonly nameEn: string;
  readonly uscc: string;
  readonly roots: readonly Root[];
  /** Origin and verifier key of its access log; "" when it has none. */
  readonly logOrigin: string;
  readonly logKey: string;
}

/** A trust file, read and checked. */
export interface Anchors {
  readonly channel: string;
  readonly chaincode: string;
  readonly versions: readonly string[];
  /** How many distinct departments must have signed. */
  readonly quorum: number;
  /** Sorted by code. */
  readonly departments: readonly Department[];
}

/**
 * Reads a trust file (consortium.json): canonical form only, every field checked,
 * the quorum a majority of the departments. Rejects with an Error whose message
 * says what is wrong. The answer serves any number of verifications.
 */
export async function loadAnchors(data: Uint8Array): Promise<Anchors> {
  if (data.length > maxTrustBytes) refuse(`trust file: more than ${maxTrustBytes} bytes`);
  try {
    return await check(parseCanonical(data, anchorsShape));
  } catch (error) {
    if (error instanceof Refusal) refuse("trust file: " + error.message);
    throw error;
  }
}

async function check(file: Value<typeof anchorsShape>): Promise<Anchors> {
  const count = file.departments.length;
  if (file.format !== trustFormat) refuse(`the format is not ${trustFormat}`);
  if (!channelPattern.test(file.channel)) refuse("the channel is not a channel name");
  if (!chaincodePattern.test(file.chaincode)) refuse("the chaincode is not a chaincode name");
  if (file.versions.length === 0 || file.versions.length > maxVersions) refuse("too few or too many chaincode versions");
  if (!file.versions.every((version) => versionPattern.test(version))) refuse("a chaincode version is not a version");
  if (new Set(file.versions).size !== file.versions.length) refuse("a chaincode version is listed twice");
  if (count === 0 || count > maxDepartments) refuse("too few or too many departments");
  const quorum = Number(file.quorum);
  // Two disjoint quorums could sign opposite statements.
  if (quorum > count || 2 * quorum <= count) refuse("the quorum is no majority of the departments, or more than all of them");

  const departments: Department[] = [];
  for (const entry of file.departments) {
    try {
      const department = await checkDepartment(entry);
      for (const earlier of departments) compare(earlier, department);
      departments.push(department);
    } catch (error) {
      if (error instanceof Refusal && codePattern.test(entry.code)) refuse(`department ${entry.code}: ${error.message}`);
      throw error;
    }
  }
  return { channel: file.channel, chaincode: file.chaincode, versions: file.versions, quorum, departments };
}

async function checkDepartment(entry: Value<typeof departmentShape>): Promise<Department> {
  if (!codePattern.test(entry.code)) refuse("a department's code is not one");
  if (!mspIDPattern.test(entry.mspId)) refuse("the MSP ID is not one");
  if (!isName(entry.nameZh) || !isName(entry.nameEn)) refuse("a name is empty or too long");
  if (!isCreditCode(entry.uscc)) refuse("the code is not a unified social credit code");
  if (entry.caRoots.length === 0 || entry.caRoots.length > maxRoots) refuse("too few or too many CA roots");
  if ((entry.logOrigin === "") !== (entry.logKey === "")) refuse("a log needs both an origin and a key");
  if (entry.logOrigin !== "") await parseVerifierKey(entry.logOrigin, entry.logKey);
  // A list that is there has entries: without, it is left out.
  if (entry.crls !== undefined && (entry.crls.length === 0 || entry.crls.length > maxLists)) refuse("too few or too many revocation lists");
  const roots: Root[] = [];
  for (const pem of entry.caRoots) {
    const root = await readRoot(utf8(pem));
    if (roots.some((other) => sameKey(root, other))) refuse("a CA root is listed twice");
    roots.push(root);
  }
  for (const crl of entry.crls ?? []) await readRevocationList(crl, roots);
  const { code, mspId, nameZh, nameEn, uscc, logOrigin, logKey } = entry;
  return { code, mspId, nameZh, nameEn, uscc, roots, logOrigin, logKey };
}

async function readRoot(pem: Bytes): Promise<Root> {
  const certificate = new Certificate(fromPEM(pem));
  const key = await certificate.verificationKey();
  if (!certificate.isAuthority || !certificate.mayCertify) refuse("CA root: not a certificate authority");
  // A root's signature on itself proves nothing; a broken one shows that the file
  // was damaged or is not what was meant.
  if (!(await signedBy(certificate, key))) refuse("CA root: not self-signed");
  return { certificate, key, revoked: new Map() };
}

/** Whether the certificate carries the ECDSA signature of a key. */
export async function signedBy(certificate: Certificate, key: CryptoKey): Promise<boolean> {
  if (certificate.signatureHash === "") return false;
  // X.509 does not ask for a low S; the certificate is covered by the signature
  // of the one who presents it, so that its twin cannot be put in its place.
  return holds(key, certificate.signatureHash, fromDER(certificate.signature), certificate.signed);
}

function compare(earlier: Department, later: Department): void {
  if (earlier.code >= later.code) refuse("departments are not sorted by code, each once");
  if (earlier.mspId === later.mspId) refuse(`has the MSP ID of ${earlier.code}`);
  if (later.logOrigin !== "" && earlier.logOrigin === later.logOrigin) refuse(`has the log origin of ${earlier.code}`);
  // One authority under two names would count as two departments.
  if (later.roots.some((root) => earlier.roots.some((other) => sameKey(root, other)))) refuse(`shares a CA root with ${earlier.code}`);
}

function sameKey(a: Root, b: Root): boolean {
  return equal(a.certificate.publicKey, b.certificate.publicKey);
}

function isName(name: string): boolean {
  const length = [...name].length;
  return length > 0 && length <= maxNameCharacters && fromUTF8(utf8(name)) === name;
}

const creditAlphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"; // GB 32100: no I, O, S, V, Z

/** Whether text is a unified social credit code 统一社会信用代码, whose last character checks the others (GB 32100). */
function isCreditCode(code: string): boolean {
  const values = [...code].map((c) => creditAlphabet.indexOf(c));
  if (values.length !== 18 || values.includes(-1)) return false;
  let sum = 0;
  let weight = 1;
  for (const value of values.slice(0, 17)) {
    sum += value * weight;
    weight = (weight * 3) % 31;
  }
  return values[17] === (31 - (sum % 31)) % 31;
}
