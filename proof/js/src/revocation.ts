import { equal, hex, utf8, type Bytes } from "./bytes.js";
import { readSignatureHash, readTime, type Certificate } from "./certificate.js";
import { constructed, DER, tags } from "./der.js";
import { fromPEM } from "./pem.js";
import { refuse } from "./refusal.js";
import { fromDER, holds } from "./signature.js";
import type { Instant } from "./time.js";

/** An authority as far as revocation lists go: what it is called, its key, and what it has revoked. */
export interface Revoker {
  certificate: Certificate;
  key: CryptoKey;
  /** When each certificate was revoked, by the hexadecimal digits of its serial number. */
  revoked: Map<string, Instant>;
}

/** Reads a revocation list (PEM, X.509 version 2) and gives what it says to the authority that signed it. */
export async function readRevocationList(pem: string, authorities: readonly Revoker[]): Promise<void> {
  const list = new RevocationList(fromPEM(utf8(pem), "X509 CRL"));
  for (const { certificate, key, revoked } of authorities) {
    if (!certificate.mayRevoke || !equal(certificate.subject, list.issuer)) continue;
    if (!(await holds(key, list.signatureHash, fromDER(list.signature), list.signed))) continue;
    for (const [serial, at] of list.entries) {
      const earlier = revoked.get(serial);
      if (earlier === undefined || at < earlier) revoked.set(serial, at);
    }
    return;
  }
  refuse("no authority of the department signed the revocation list");
}

/** A certificate revocation list. One that is critically less than the whole list of its issuer is refused. */
class RevocationList {
  readonly signed: Bytes;
  readonly signatureHash: string;
  readonly signature: Bytes;
  readonly issuer: Bytes;
  readonly entries: [serial: string, at: Instant][] = [];

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
    const version = body.natural();
    if (version.length !== 1 || version[0] !== 1) refuse("revocation list: not of version 2");
    const algorithm = body.element(tags.sequence);
    if (!equal(algorithm.content, outerAlgorithm.content)) refuse("revocation list: two signature algorithms");
    this.signatureHash = readSignatureHash(algorithm);
    if (this.signatureHash === "") refuse("revocation list: a signature of another kind than ECDSA's");
    this.issuer = body.element(tags.sequence).whole;
    readTime(body); // this update
    if (body.next(tags.utcTime) || body.next(tags.generalizedTime)) readTime(body); // next update
    if (body.next(tags.sequence)) {
      const entries = body.inside(tags.sequence);
      while (!entries.empty) {
        const entry = entries.inside(tags.sequence);
        const serial = entry.natural();
        if (serial.length === 0) refuse("revocation list: no serial number");
        this.entries.push([hex(serial), readTime(entry)]);
        if (!entry.empty) readExtensions(entry.inside(tags.sequence));
        entry.end();
      }
    }
    if (!body.empty) {
      const wrapper = body.inside(constructed(0));
      readExtensions(wrapper.inside(tags.sequence));
      wrapper.end();
    }
    body.end();
  }
}

function readExtensions(extensions: DER): void {
  while (!extensions.empty) {
    const item = extensions.inside(tags.sequence);
    item.oid();
    if (item.next(tags.boolean) && item.boolean()) refuse("the revocation list is not a whole one");
    item.content(tags.octetString);
    item.end();
  }
}
