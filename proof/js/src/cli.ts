#!/usr/bin/env node
// The verdict goes to standard output; why it is not a plain yes goes to standard
// error as well. Exit codes are those of `zhenglian verify`.
import { open, readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

import { checkCodeMatches, loadAnchors, maxBundleBytes, verify, verifyWith, type Anchors, type Options, type Verdict } from "./index.js";

const usage = `usage: zhenglian-proof FILE --trust FILE [--now TIME] [--nonce HEX] [--check-code CODE] [--json]
       zhenglian-proof --stdin

Checks a proof file (.zlproof; - reads standard input) against a trust file
(consortium.json) that you have pinned. --now judges as of another time than the
present.

--stdin reads one JSON object per line and answers each with the verdict on one
line: {"bundle": base64, "anchors": base64, "options": {"at": TIME, "statusAt": TIME,
"nonce": HEX, "policy": {…}}}.

Exit codes: 0 the proof holds, whatever it proves (read the verdict: a revoked
certificate is proven too); 3 the proof, the nonce or the check code is refused;
4 nothing can be decided; 1 a file cannot be read; 2 wrong use.

example: zhenglian-proof certificate.zlproof --trust consortium.json --json
`;

const exit = { holds: 0, failed: 1, usage: 2, refused: 3, undecided: 4 } as const;

class UsageError extends Error {}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      trust: { type: "string" },
      now: { type: "string" },
      nonce: { type: "string" },
      "check-code": { type: "string" },
      json: { type: "boolean" },
      stdin: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return exit.holds;
  }
  if (values.stdin) {
    if (positionals.length > 0 || values.trust !== undefined) throw new UsageError("--stdin takes everything from standard input");
    return answerLines();
  }
  const [file, ...more] = positionals;
  if (file === undefined || more.length > 0) throw new UsageError("exactly one proof file is needed");
  if (values.trust === undefined) throw new UsageError("--trust is needed");
  if (values.nonce !== undefined && !/^[0-9a-f]{32}$/.test(values.nonce)) throw new UsageError("--nonce must be 32 lower-case hexadecimal digits");

  const options: Options = { at: values.now ?? new Date(), nonce: values.nonce ?? "" };
  const verdict = await verify(await readProof(file), await readFile(values.trust), options);
  const code = values["check-code"];
  const checkCode = code === undefined ? "" : await compareCode(verdict, code);
  process.stdout.write(values.json ? JSON.stringify({ ...verdict, checkCode }, null, 2) + "\n" : `${verdict.overall}: ${verdict.reason}\n`);
  return exitCode(verdict, checkCode);
}

/** Reads one byte more than a proof may have, so that a longer file is refused for its length. */
async function readProof(file: string): Promise<Uint8Array> {
  const handle = await open(file === "-" ? "/dev/stdin" : file);
  try {
    const chunks: Buffer[] = [];
    let left = maxBundleBytes + 1;
    for await (const chunk of handle.createReadStream({ autoClose: false })) {
      chunks.push((chunk as Buffer).subarray(0, left));
      left -= Math.min(left, (chunk as Buffer).length);
      if (left === 0) break;
    }
    return Buffer.concat(chunks);
  } finally {
    await handle.close();
  }
}

async function compareCode(verdict: Verdict, code: string): Promise<string> {
  if (!verdict.statement?.found || verdict.statement.kind !== "certificate") return "unknown";
  return (await checkCodeMatches(verdict.statement, code)) ? "match" : "mismatch";
}

function exitCode(verdict: Verdict, checkCode: string): number {
  const say = (text: string): void => void process.stderr.write("zhenglian-proof: " + text + "\n");
  if (verdict.overall === "bad_proof") {
    say("proof refused: " + verdict.reason);
    return exit.refused;
  }
  if (checkCode === "mismatch") {
    say("proof refused: the check code is not this certificate's");
    return exit.refused;
  }
  if (verdict.overall === "cannot_check" || checkCode === "unknown") {
    say("cannot check: " + (verdict.overall === "cannot_check" ? verdict.reason : "the proof is not about a certificate on the ledger"));
    return exit.undecided;
  }
  return exit.holds;
}

/** What a line of --stdin holds. */
interface Job {
  bundle: string;
  anchors: string;
  options?: Options;
}

async function answerLines(): Promise<number> {
  // Test runs ask about few trust files many times.
  const known = new Map<string, Promise<Anchors | undefined>>();
  const load = (text: string): Promise<Anchors | undefined> => {
    let anchors = known.get(text);
    if (anchors === undefined) {
      if (known.size >= 64) known.clear();
      anchors = loadAnchors(Buffer.from(text, "base64")).catch(() => undefined);
      known.set(text, anchors);
    }
    return anchors;
  };
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    let answer: unknown;
    try {
      const job = JSON.parse(line) as Job;
      const bundle = Buffer.from(job.bundle, "base64");
      const anchors = await load(job.anchors);
      answer = anchors === undefined ? await verify(bundle, Buffer.from(job.anchors, "base64"), job.options) : await verifyWith(bundle, anchors, job.options);
    } catch (error) {
      answer = { error: "not a job: " + String(error) };
    }
    if (!process.stdout.write(JSON.stringify(answer) + "\n")) await new Promise((resolve) => process.stdout.once("drain", resolve));
  }
  return exit.holds;
}

try {
  process.exitCode = await main();
} catch (error) {
  const wrongUse = error instanceof UsageError || (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS");
  process.stderr.write(`zhenglian-proof: ${(error as Error).message}\n${wrongUse ? usage : ""}`);
  process.exitCode = wrongUse ? exit.usage : exit.failed;
}
