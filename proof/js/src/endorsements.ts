import type { Anchors, Department } from "./anchors.js";
import type { Bundle, Endorsement } from "./bundle.js";
import { concat, type Bytes } from "./bytes.js";
import type { Certificate } from "./certificate.js";
import { authoritiesOf, checkIssued, inForce } from "./chain.js";
import { parseIdentity } from "./identity.js";
import { Refusal, refuse } from "./refusal.js";
import { checkLowS, fromDER, holds } from "./signature.js";
import type { Instant } from "./time.js";

/** The roles that an organisational unit gives a certificate of a Fabric MSP. Exactly one of them must be there. */
export const roles = ["client", "peer", "admin", "orderer"];

/**
 * Checks every endorsement and answers the departments that made them, sorted.
 * One that does not hold, or a second one of the same department, refuses them
 * all: with "any k good ones" the rest of the file could be anything.
 */
export async function checkEndorsements(bundle: Bundle, anchors: Anchors, at: Instant): Promise<string[]> {
  const signers: string[] = [];
  let last = "";
  // The cheap checks of all come first, so that a file that fails them costs little.
  const pending = bundle.endorsements.map((endorsement) => {
    const { mspID, certificate } = parseIdentity(endorsement.endorser);
    const department = anchors.departments.find((d) => d.mspId === mspID) ?? refuse("a signer's MSP is not among the trust anchors");
    if (mspID <= last) refuse("endorsements are not sorted by MSP ID, each department once");
    last = mspID;
    signers.push(department.code);
    return within(department, () => prepare(endorsement, certificate, department, at));
  });
  // The first alone: an answer that nobody signed costs one check and not one for
  // each. The others at once, for they wait on other threads; the first in order says why.
  const [first, ...others] = pending;
  await first?.(bundle.response);
  for (const done of await Promise.allSettled(others.map((check) => check(bundle.response)))) {
    if (done.status === "rejected") throw done.reason;
  }
  return signers.sort();
}

// Prepares the check of one endorsement's signatures once its form is in order.
function prepare({ endorser, signature }: Endorsement, certificate: Certificate, department: Department, at: Instant): (response: Bytes) => Promise<void> {
  checkPeer(certificate, at);
  const raw = fromDER(signature);
  checkLowS(raw);
  const authorities = authoritiesOf(certificate, department, at);
  return (response) =>
    withinAsync(department, async () => {
      const key = await certificate.verificationKey();
      if (!(await holds(key, "SHA-256", raw, concat(response, endorser)))) refuse("the signature does not hold");
      await checkIssued(certificate, authorities, at);
    });
}

function checkPeer(certificate: Certificate, at: Instant): void {
  const held = certificate.organizationalUnits.filter((unit) => roles.includes(unit));
  if (held.length !== 1 || held[0] !== "peer") refuse("the certificate is not a peer's");
  if (certificate.isAuthority) refuse("the certificate is a certificate authority's");
  if (certificate.demandsUnknown) refuse("the certificate demands what this program does not know");
  if (!inForce(certificate, at)) refuse("the certificate was not in force when the statement was made");
}

function named(department: Department, error: unknown): unknown {
  return error instanceof Refusal ? new Refusal(`endorsement of ${department.code}: ${error.message}`) : error;
}

function within<T>(department: Department, check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw named(department, error);
  }
}

async function withinAsync<T>(department: Department, check: () => Promise<T>): Promise<T> {
  try {
    return await check();
  } catch (error) {
    throw named(department, error);
  }
}
