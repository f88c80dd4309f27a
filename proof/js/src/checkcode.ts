import { digestOf } from "./hash.js";
import { parseText, type Value } from "./json.js";
import { Certificate } from "./shapes.gen.js";
import type { Statement } from "./verdict.js";

/**
 * Whether the check code printed on a paper is that of the certificate in a
 * statement: people copy it with spaces, hyphens and small letters. False for a
 * statement about anything else.
 */
export async function checkCodeMatches(statement: Statement, code: string): Promise<boolean> {
  if (!statement.found || statement.kind !== "certificate") return false;
  let certificate: Value<typeof Certificate>;
  try {
    certificate = parseText(statement.record, Certificate);
  } catch {
    return false; // no statement of verify's
  }
  const { ref, checkCodeHash } = certificate.content;
  const plain = code.replace(/[ -]/g, "").toUpperCase();
  return checkCodeHash === (await digestOf(`zhenglian/check-code/1\n${ref}\n${plain}`));
}
