import { fromBase64URL } from "./base64.js";
import type { Bytes } from "./bytes.js";
import { bundleFormat } from "./format.js";
import { list, object, parseCanonical, text } from "./json.js";
import { refuse } from "./refusal.js";

/** The largest proof file that is read. */
export const maxBundleBytes = 256 << 10;
const maxEndorsements = 32;

const bundleShape = object({
  format: text,
  read: object({
    proposal: text,
    response: text,
    endorsements: list(object({ endorser: text, signature: text })),
  }),
});

/** One department's endorsement as it left the peer. */
export interface Endorsement {
  endorser: Bytes;
  signature: Bytes;
}

/** A signed read with its base64 undone. */
export interface Bundle {
  proposal: Bytes;
  response: Bytes;
  endorsements: Endorsement[];
}

/** Reads a proof file in its canonical form. It checks the form only. */
export function parseBundle(data: Uint8Array): Bundle {
  if (data.length > maxBundleBytes) refuse(`proof bundle: more than ${maxBundleBytes} bytes`);
  const { format, read } = parseCanonical(data, bundleShape);
  if (format !== bundleFormat) refuse(`proof bundle: the format is not ${bundleFormat}`);
  if (read.endorsements.length === 0 || read.endorsements.length > maxEndorsements) refuse("proof bundle: too few or too many endorsements");
  return {
    proposal: bytesOf("proposal", read.proposal),
    response: bytesOf("response", read.response),
    endorsements: read.endorsements.map((e) => ({
      endorser: bytesOf("endorser", e.endorser),
      signature: bytesOf("signature", e.signature),
    })),
  };
}

function bytesOf(name: string, digits: string): Bytes {
  const bytes = fromBase64URL(digits);
  if (bytes === undefined || bytes.length === 0) refuse(`proof bundle: ${name} is not base64url without padding`);
  return bytes;
}
