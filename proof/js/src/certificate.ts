import { fromUTF8, hex, type Bytes } from "./bytes.js";
import { constructed, context, DER, tags, type Element } from "./der.js";
import { Refusal, refuse } from "./refusal.js";
import { instantOf, type Instant } from "./time.js";

// Object identifiers, as the hexadecimal digits of their DER content.
const ecPublicKey = "2a8648ce3d0201"; // 1.2.840.10045.2.1
const ed25519 = "2b6570"; // 1.3.101.112
const curves: Readonly<Record<string, string>> = {
  "2a8648ce3d030107": "P-256",
  "2b81040022": "P-384",
  "2b81040023": "P-521",
};
const signatureHashes: Readonly<Record<string, string>> = {
  "2a8648ce3d040302": "SHA-256", // ecdsa-with-SHA256
  "2a8648ce3d040303": "SHA-384",
  "2a8648ce3d040304": "SHA-512",
};
const organizationalUnit = "55040b"; // 2.5.4.11
const authorityInformation = "2b06010505070101"; // 1.3.6.1.5.5.7.1.1
const extension = (n: number): string => "551d" + n.toString(16).padStart(2, "0"); // 2.5.29.n

// The bits of KeyUsage.
const digitalSignature = 0;
const certSign = 5;
const crlSign = 6;

/**
 * An X.509 certificate of version 3, as Fabric's authorities issue them. What it
 * cannot judge it refuses: name constraints and policy rules, which could forbid
 * what the rest permits, and keys other than elliptic curves'.
 */
export class Certificate {
  /** What the authority signed. */
  readonly signed: Bytes;
  /** The hash of the authority's ECDSA signature; "" when the signature is of another kind. */
  readonly signatureHash: string;
  readonly signature: Bytes;
  readonly issuer: Bytes;
  readonly subject: Bytes;
  /** The serial number's hexadecimal digits. */
  readonly serial: string;
  readonly notBefore: Instant;
  readonly notAfter: Instant;
  readonly organizationalUnits: string[] = [];
  /** SubjectPublicKeyInfo. */
  readonly publicKey: Bytes;
  /** "P-256", "P-384", "P-521" or "Ed25519". */
  readonly curve: string;
  /** The key itself, without the names of its algorithm. */
  readonly point: Bytes;
  /** Says of itself, in the extension made for it, that it is an authority. */
  isAuthority = false;
  /** May sign what is neither a certificate nor a revocation list. */
  maySign = false;
  /** May sign certificates. */
  mayCertify = false;
  /** May sign revocation lists. */
  mayRevoke = false;
  /** Demands something that this program does not know. */
  demandsUnknown = false;

  constructor(der: Bytes) {
    const file = new DER(der);
    const outer = file.inside(tags.sequence);
    file.end();
    const signed = outer.element(tags.sequence);
    this.signed = signed.whole;
    const outerAlgorithm = outer.element(tags.sequence);
    this.signature = outer.bytes();
    outer.end();

    const body = new DER(signed.content);
    const version = body.inside(constructed(0));
    const number = version.natural();
    version.end();
    if (number.length !== 1 || number[0] !== 2) refuse("certificate: not of version 3");
    this.serial = hex(body.natural());
    const algorithm = body.element(tags.sequence);
    if (!sameBytes(algorithm, outerAlgorithm)) refuse("certificate: two signature algorithms");
    this.signatureHash = readSignatureHash(algorithm);
    const issuer = body.element(tags.sequence);
    readName(issuer);
    this.issuer = issuer.whole;
    const validity = body.inside(tags.sequence);
    this.notBefore = readTime(validity);
    this.notAfter = readTime(validity);
    validity.end();
    const subject = body.element(tags.sequence);
    readName(subject, this.organizationalUnits);
    this.subject = subject.whole;
    const key = body.element(tags.sequence);
    this.publicKey = key.whole;
    [this.curve, this.point] = readKey(key);
    if (!body.empty) this.readExtensions(body.inside(constructed(3)));
    body.end();
  }

  private readExtensions(wrapper: DER): void {
    const extensions = wrapper.inside(tags.sequence);
    wrapper.end();
    const seen = new Set<string>();
    while (!extensions.empty) {
      const item = extensions.inside(tags.sequence);
      const id = item.oid();
      if (seen.has(id)) refuse("certificate: an extension occurs twice");
      seen.add(id);
      const critical = item.next(tags.boolean) && item.boolean();
      const value = new DER(item.content(tags.octetString));
      item.end();
      this.readExtension(id, critical, value);
    }
  }

  private readExtension(id: string, critical: boolean, value: DER): void {
    switch (id) {
      case extension(15): {
        const bit = value.bits();
        this.maySign = bit(digitalSignature);
        this.mayCertify = bit(certSign);
        this.mayRevoke = bit(crlSign);
        break;
      }
      case extension(19): {
        const constraints = value.inside(tags.sequence);
        this.isAuthority = constraints.next(tags.boolean) && constraints.boolean();
        if (constraints.next(tags.integer)) constraints.natural();
        constraints.end();
        break;
      }
      case extension(17):
        if (!readAlternativeNames(value)) this.demandsUnknown ||= critical;
        return;
      case extension(14): // subject key identifier
        if (critical) refuse("certificate: an extension is marked critical that must not be");
        value.content(tags.octetString);
        break;
      case extension(35): {
        // authority key identifier
        if (critical) refuse("certificate: an extension is marked critical that must not be");
        const identifier = value.inside(tags.sequence);
        while (!identifier.empty) identifier.element();
        break;
      }
      case authorityInformation:
        if (critical) refuse("certificate: an extension is marked critical that must not be");
        readSequences(value, (item) => item.oid());
        return;
      case extension(31): // CRL distribution points
        readSequences(value, (item) => {
          if (!item.next(constructed(0))) return;
          const name = item.inside(constructed(0));
          const full = name.inside(constructed(0));
          while (!full.empty) full.element();
        });
        return;
      case extension(32): {
        // certificate policies
        const seen = new Set<string>();
        readSequences(value, (item) => {
          const policy = item.oid();
          if (seen.has(policy)) refuse("certificate: a policy occurs twice");
          seen.add(policy);
        });
        return;
      }
      case extension(37): {
        // extended key usage: peers of a consortium sign whatever it says
        const usages = value.inside(tags.sequence);
        while (!usages.empty) usages.oid();
        break;
      }
      case extension(30): // name constraints
      case extension(33): // policy mappings
      case extension(36): // policy constraints
      case extension(54): // inhibit any policy
        refuse("certificate: constraints that this program does not judge");
        break;
      default:
        this.demandsUnknown ||= critical;
        return;
    }
    value.end();
  }

  /** Refuses a public key that is no point of its curve. */
  async checkKey(): Promise<void> {
    if (this.curve === "Ed25519") return; // every 32 bytes name a key; not all browsers know the algorithm
    await this.importKey(this.curve);
  }

  /** The ECDSA P-256 key for verifying; nothing else signs here. */
  async verificationKey(): Promise<CryptoKey> {
    if (this.curve !== "P-256") refuse("the key is not ECDSA P-256");
    return this.importKey("P-256");
  }

  private async importKey(namedCurve: string): Promise<CryptoKey> {
    try {
      return await crypto.subtle.importKey("raw", this.point, { name: "ECDSA", namedCurve }, true, ["verify"]);
    } catch {
      throw new Refusal("the public key is not a point of its curve");
    }
  }
}

function sameBytes(a: Element, b: Element): boolean {
  return a.content.length === b.content.length && a.content.every((byte, i) => byte === b.content[i]);
}

function readSequences(value: DER, read: (item: DER) => void): void {
  const items = value.inside(tags.sequence);
  value.end();
  while (!items.empty) read(items.inside(tags.sequence));
}

/** The hash of an ECDSA signature; "" for a signature of another kind. */
export function readSignatureHash(algorithm: Element): string {
  const fields = new DER(algorithm.content);
  const hash = signatureHashes[fields.oid()] ?? "";
  if (!fields.empty) fields.element();
  fields.end();
  return hash;
}

function readKey(key: Element): [curve: string, point: Bytes] {
  const fields = new DER(key.content);
  const algorithm = fields.inside(tags.sequence);
  const kind = algorithm.oid();
  const curve = kind === ecPublicKey ? curves[algorithm.oid()] : kind === ed25519 ? "Ed25519" : undefined;
  if (curve === undefined) refuse("certificate: a key of another kind than elliptic curves'");
  algorithm.end();
  const point = fields.bytes();
  fields.end();
  // SEC 1 has a compressed form too: a second spelling of the same key.
  if (curve === "Ed25519" ? point.length !== 32 : point[0] !== 4) refuse("certificate: a public key of another form");
  return [curve, point];
}

/** Reads a time in UTC of either form that X.509 has. */
export function readTime(validity: DER): Instant {
  const utc = validity.next(tags.utcTime);
  const digits = fromUTF8(validity.content(utc ? tags.utcTime : tags.generalizedTime)) ?? "";
  const parts = (utc ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ : /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/).exec(digits);
  if (parts === null) refuse("certificate: a time of another form");
  const [year, month, day, hours, minutes, seconds] = parts.slice(1).map(Number) as [number, number, number, number, number, number];
  // RFC 5280: two digits stand for 1950 to 2049.
  const full = !utc ? year : year < 50 ? 2000 + year : 1900 + year;
  return instantOf(full, month, day, hours, minutes, seconds) ?? refuse("certificate: a time that does not exist");
}

// Checks a distinguished name and collects its organisational units.
function readName(name: Element, units: string[] = []): void {
  const sets = new DER(name.content);
  while (!sets.empty) {
    const set = sets.inside(tags.set);
    if (set.empty) refuse("certificate: an empty part of a name");
    while (!set.empty) {
      const attribute = set.inside(tags.sequence);
      const type = attribute.oid();
      const value = readString(attribute.element());
      attribute.end();
      if (type === organizationalUnit) units.push(value);
    }
  }
}

const printable = /^[A-Za-z0-9 '()+,\-./:=?*&]*$/;

function readString({ tag, content }: Element): string {
  const latin = (): string => String.fromCharCode(...content.subarray(0, 1024));
  let value: string | undefined;
  switch (tag) {
    case tags.utf8String:
      value = fromUTF8(content);
      break;
    case tags.printableString:
      value = latin();
      if (!printable.test(value)) value = undefined;
      break;
    case tags.ia5String:
      value = latin();
      if (!/^[\u0000-\u007f]*$/.test(value)) value = undefined;
      break;
    case tags.numericString:
      value = latin();
      if (!/^[0-9 ]*$/.test(value)) value = undefined;
      break;
    case tags.t61String:
      value = latin();
      break;
    case tags.bmpString:
      value = readBMP(content);
  }
  if (value === undefined || content.length > 1024) refuse("certificate: a text of another form");
  return value;
}

function readBMP(content: Bytes): string | undefined {
  if (content.length % 2 !== 0) return undefined;
  let out = "";
  for (let i = 0; i < content.length; i += 2) out += String.fromCharCode(((content[i] as number) << 8) | (content[i + 1] as number));
  // Some authorities end the text with a zero; half a character or none at all is no text.
  out = out.replace(/\u0000$/, "");
  return /[\ud800-\udfff\ufffe\uffff\ufdd0-\ufdef]/.test(out) ? undefined : out;
}

// Checks alternative names; false when none is of a kind that means something here.
function readAlternativeNames(value: DER): boolean {
  const names = value.inside(tags.sequence);
  value.end();
  let understood = false;
  while (!names.empty) {
    const { tag, content } = names.element();
    const text = fromUTF8(content) ?? "\u0080";
    switch (tag) {
      case context(1): // mail address
      case context(2): // host name
        if (!/^[\u0000-\u007f]*$/.test(text)) refuse("certificate: an alternative name of another form");
        break;
      case context(6): // address of a resource, in a form that every reader takes alike
        if (!/^[a-z][a-z0-9+.-]*:\/\/[a-z0-9.-]+(?:\/[A-Za-z0-9._~\/-]*)?$/.test(text)) refuse("certificate: an alternative name of another form");
        break;
      case context(7): // network address
        if (content.length !== 4 && content.length !== 16) refuse("certificate: an alternative name of another form");
        break;
      default:
        continue;
    }
    understood = true;
  }
  return understood;
}
