// The public page's script. Without it the page says the same; with it the reader
// verifies in the browser what the departments signed. It asks this gateway only,
// sends no check code and no file anywhere, and writes text, never markup.
"use strict";

const words = TEXT[document.documentElement.lang === "en" ? "en" : "zh"];
const element = (id) => document.getElementById(id);
const page = element("result").dataset;
const maxFile = 256 << 10;

// Created anew for each answer: text in, elements out.
function make(name, text, attributes = {}) {
  const e = document.createElement(name);
  if (text) e.textContent = text;
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  return e;
}

// The program that verifies is loaded when it is first asked for.
let program;
function load() {
  program ??= import("/verify/zhenglian-proof.js").catch((error) => {
    program = undefined; // so that the next attempt tries again
    throw error;
  });
  return program;
}

class Failure extends Error {}

async function fetched(path, failure) {
  try {
    const answer = await fetch(path, { cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer" });
    if (!answer.ok) throw new Failure(failure);
    return new Uint8Array(await answer.arrayBuffer());
  } catch {
    throw new Failure(failure);
  }
}

async function bytesOf(file, failure) {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new Failure(failure);
  }
}

const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

function moment(text) {
  const locale = document.documentElement.lang === "en" ? "en-GB" : "zh-CN";
  return new Date(text).toLocaleString(locale, { timeZone: "Asia/Shanghai", dateStyle: "long", timeStyle: "medium" });
}

function say(place, text) {
  place.replaceChildren(make("p", text));
}

const marks = { pass: "✓", fail: "✗", "": "?" };

function line(question, outcome) {
  const item = make("li", "", { class: outcome || "unknown" });
  item.append(make("span", marks[outcome], { class: "mark", "aria-hidden": "true" }), " " + words["q_" + question] + ": ", make("strong", words["o_" + (outcome || "unknown")]));
  return item;
}

function row(list, term, ...what) {
  const group = make("div");
  const value = make("dd");
  value.append(...what);
  group.append(make("dt", term), value);
  list.append(group);
}

function named(trust, code) {
  const department = trust?.departments?.find((d) => d.code === code);
  return department?.[document.documentElement.lang === "en" ? "nameEn" : "nameZh"] || code;
}

// show writes what was found. codeMatches is undefined when no code was given,
// shown when there is nothing on the page to agree with.
async function show(place, verdict, trustFile, own, codeMatches, shown) {
  let trust;
  try {
    trust = JSON.parse(new TextDecoder().decode(trustFile));
  } catch {
    // The verdict says that the trust file is unusable.
  }
  const banner = make("p", words["p_" + verdict.overall] ?? words.p_cannot_check, { class: "answer " + verdict.overall });
  const answer = [banner];
  element("differs")?.remove();
  if (shown !== undefined && verdict.overall !== "cannot_check") {
    const agrees = verdict.overall === shown;
    answer.push(make("p", agrees ? words.b_agrees : words.b_differs, agrees ? {} : { role: "alert", class: "warning" }));
    // Whoever scrolls up again must not go by what stands there.
    if (!agrees) element("result").prepend(make("p", words.b_differs, { id: "differs", class: "warning" }));
  }
  if (codeMatches === false) answer.push(make("p", words.b_no_code, { role: "alert", class: "warning" }));
  const checks = make("ol", "", { class: "checks" });
  for (const c of verdict.checks) checks.append(line(c.question, c.outcome));
  if (codeMatches !== undefined) checks.append(line("code", codeMatches ? "pass" : "fail"));
  answer.push(checks);

  const facts = make("dl");
  if (verdict.signers?.length) row(facts, words.p_signers, verdict.signers.map((s) => named(trust, s)).join(words.b_comma));
  const statement = verdict.statement;
  if (statement) {
    row(facts, words.p_as_of, moment(statement.asOf));
    if (statement.kind === "certificate" && statement.found) {
      const content = JSON.parse(statement.record).content;
      row(facts, words.p_type, make("bdi", document.documentElement.lang === "en" ? content.typeNameEn : content.typeNameZh));
      row(facts, words.p_cert_id, make("bdi", content.certId, { class: "code" }));
    } else {
      row(facts, words.p_record, make("bdi", statement.kind + " " + statement.id, { class: "code" }));
    }
  }
  if (verdict.overall === "bad_proof" || verdict.overall === "cannot_check") row(facts, words.p_reason, make("bdi", verdict.reason, { lang: "en" }));
  if (globalThis.crypto?.subtle) {
    const fingerprint = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", trustFile))).replace(/.{8}(?=.)/g, "$& ");
    row(facts, words.p_trust, make("bdi", fingerprint, { class: "code" }), make("br"), make("span", own ? words.p_trust_own : words.p_trust_gateway, { class: "other" }));
  }
  answer.push(facts);
  place.replaceChildren(...answer);
}

async function trustFile() {
  const own = element("trust")?.files[0];
  const bytes = own ? await bytesOf(own, words.b_no_trust) : await fetched("/v1/trust", words.b_no_trust);
  return { bytes, own: own !== undefined };
}

// run answers a click: one at a time, and whatever fails is said in words.
async function run(place, button, work) {
  if (button.disabled) return;
  button.disabled = true;
  place.setAttribute("aria-busy", "true");
  try {
    say(place, words.b_loading);
    let verifier;
    try {
      verifier = await load();
    } catch {
      throw new Failure(words.b_no_program);
    }
    await work(verifier);
  } catch (error) {
    say(place, error instanceof Failure ? error.message : words.b_no_program);
  } finally {
    place.removeAttribute("aria-busy");
    button.disabled = false;
  }
}

async function matches(verifier, statement, code) {
  return code && statement ? verifier.checkCodeMatches(statement, code) : undefined;
}

function verifyCertificate() {
  const place = element("browser-result");
  return run(place, element("check"), async (verifier) => {
    say(place, words.b_fetching);
    const nonce = hex(crypto.getRandomValues(new Uint8Array(16)));
    const trust = await trustFile();
    const proof = await fetched(`/v1/verify/${page.ref}/proof?nonce=${nonce}`, words.b_no_proof);
    say(place, words.b_checking);
    const verdict = await verifier.verify(proof, trust.bytes, { at: new Date(), nonce });
    // A proof of another certificate would be as good a proof.
    if (verdict.statement && (verdict.statement.kind !== "certificate" || verdict.statement.id !== page.ref)) {
      verdict.overall = "bad_proof";
      verdict.reason = "the proof is about another record";
    }
    const code = element("code").value.trim();
    await show(place, verdict, trust.bytes, trust.own, await matches(verifier, verdict.statement, code), page.verdict);
  });
}

// A credential holds personal data: it goes nowhere unless the reader says so.
function looksLikeCredential(bytes) {
  return bytes[0] === 0x65 && bytes[1] === 0x79 && bytes.includes(0x7e); // "ey…~"
}

function offerToSend(place, form) {
  const send = make("button", words.b_send, { class: "button plain", type: "button" });
  send.addEventListener("click", () => form.submit()); // asks no further
  const last = make("p");
  last.append(send);
  place.replaceChildren(make("p", words.b_credential), last);
}

function verifyFile(event) {
  event.preventDefault(); // nothing is sent
  const place = element("file-result");
  return run(place, event.target.querySelector("button"), async (verifier) => {
    const file = element("file-input").files[0];
    if (!file) throw new Failure(words.file_none);
    if (file.size === 0 || file.size > maxFile) throw new Failure(words.file_large);
    const bundle = await bytesOf(file, words.file_none);
    if (looksLikeCredential(bundle)) return offerToSend(place, event.target);
    const trust = await trustFile();
    say(place, words.b_checking);
    const verdict = await verifier.verify(bundle, trust.bytes, { at: new Date() });
    const code = element("code")?.value.trim();
    const sameCertificate = verdict.statement?.id === page.ref;
    await show(place, verdict, trust.bytes, trust.own, sameCertificate ? await matches(verifier, verdict.statement, code) : undefined, undefined);
  });
}

// What stands behind the "#" of the link is the check code. It stays with the
// reader when another language or size is chosen, and is never sent.
const code = /^#([2-9A-HJ-NP-Za-hj-np-z]{10})$/.exec(location.hash)?.[1];
if (code) {
  for (const a of document.querySelectorAll("nav a, .advice a[href^='?']")) a.hash = code;
}
element("file-form").addEventListener("submit", verifyFile);
element("file-note").textContent = element("file-note").dataset.kept;
if (element("browser")) {
  if (code) element("code").value = code.toUpperCase();
  element("check").addEventListener("click", verifyCertificate);
  element("browser").hidden = false;
}
