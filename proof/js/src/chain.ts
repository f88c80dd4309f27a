import { signedBy, type Department, type Root } from "./anchors.js";
import { equal } from "./bytes.js";
import type { Certificate } from "./certificate.js";
import { refuse } from "./refusal.js";
import type { Instant } from "./time.js";

/** The authorities of a department that may have issued a certificate, by their name and their time. */
export function authoritiesOf(certificate: Certificate, department: Department, at: Instant): Root[] {
  const authorities = department.roots.filter(
    ({ certificate: root }) => equal(root.subject, certificate.issuer) && !root.demandsUnknown && inForce(root, at),
  );
  if (authorities.length === 0) refuse("the certificate is not from the department's authority, or that was not in force");
  return authorities;
}

/** Checks that one of the authorities signed a certificate and had not revoked it at a time. */
export async function checkIssued(certificate: Certificate, authorities: Root[], at: Instant): Promise<void> {
  const signed = await Promise.all(authorities.map((authority) => signedBy(certificate, authority.key)));
  // One only: with two of the same name and key it would be unclear whose the certificate is.
  const [authority, ...more] = authorities.filter((_, i) => signed[i]);
  if (authority === undefined || more.length > 0) refuse("the certificate does not chain to the department's authority");
  const revokedAt = authority.revoked.get(certificate.serial);
  if (revokedAt !== undefined && revokedAt <= at) refuse("the certificate was revoked when it signed this");
}

export function inForce(certificate: Certificate, at: Instant): boolean {
  return at >= certificate.notBefore && at <= certificate.notAfter;
}
