import type { Bytes } from "./bytes.js";
import { Certificate } from "./certificate.js";
import { fromPEM } from "./pem.js";
import { Refusal, refuse } from "./refusal.js";
import { Message, type Fields } from "./wire.js";

const identityFields: Fields = { 1: { kind: "text" }, 2: { kind: "bytes" } };

/** An MSP ID with a certificate. */
export interface Identity {
  mspID: string;
  certificate: Certificate;
}

/** Reads an msp.SerializedIdentity. It trusts nothing yet. */
export function parseIdentity(data: Bytes): Identity {
  const fields = new Message("identity", data, identityFields);
  if (!fields.has(1)) refuse("identity: no MSP ID");
  try {
    return { mspID: fields.text(1), certificate: new Certificate(fromPEM(fields.bytes(2))) };
  } catch (error) {
    if (error instanceof Refusal) refuse("identity: " + error.message);
    throw error;
  }
}
