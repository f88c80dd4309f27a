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

// show writes what was found. more are answers to questions beside the verdict's own;
// shown is the verdict on the page, undefined when there is none to agree with.
async function show(place, verdict, { bytes: trustFile, own }, more, shown, credential) {
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
  for (const [question, outcome] of more) {
    if (outcome === "fail") answer.push(make("p", words["b_no_" + question], { role: "alert", class: "warning" }));
  }
  const checks = make("ol", "", { class: "checks" });
  for (const c of verdict.checks) checks.append(line(c.question, c.outcome));
  for (const [question, outcome] of more) checks.append(line(question, outcome));
  answer.push(checks);

  const facts = make("dl");
  if (verdict.signers?.length) row(facts, words.p_signers, verdict.signers.map((s) => named(trust, s)).join(words.b_comma));
  const statement = verdict.statement;
  if (statement) {
    row(facts, words.p_as_of, moment(statement.asOf));
    if (statement.kind === "certificate" && statement.found) {
      const { content, openObjection } = JSON.parse(statement.record);
      if (openObjection) answer.push(make("p", words.b_objection.replace("%s", moment(openObjection.act.effectiveAt)), { class: "warning" }));
      row(facts, words.p_type, make("bdi", document.documentElement.lang === "en" ? content.typeNameEn : content.typeNameZh));
      row(facts, words.p_cert_id, make("bdi", content.certId, { class: "code" }));
    } else {
      row(facts, words.p_record, make("bdi", statement.kind + " " + statement.id, { class: "code" }));
    }
  }
  for (const item of credential ? [...credential.items, ...credential.byCode] : []) row(facts, item.name, make("bdi", item.value));
  if (credential?.withheld) row(facts, words.b_withheld, String(credential.withheld));
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

// What the check code shows is fetched sealed and opened here, so that the gateway
// learns nothing of the code.
const context = "zhenglian/sealed/1";
const utf8 = (text) => new TextEncoder().encode(text);
const plainCode = () => element("code")?.value.replace(/[ -]/g, "").toUpperCase() ?? "";
let opened; // the credential that the check code opened

async function unseal(code) {
  if (!globalThis.crypto?.subtle) throw new Failure(words.b_no_crypto);
  const sealed = await fetched(`/v1/verify/${page.ref}/sealed`, words.b_no_sealed);
  const secret = await crypto.subtle.importKey("raw", utf8(code), "HKDF", false, ["deriveKey"]);
  const derivation = { name: "HKDF", hash: "SHA-256", salt: utf8(page.ref), info: utf8(context) };
  const key = await crypto.subtle.deriveKey(derivation, secret, { name: "AES-GCM", length: 256 }, false, ["decrypt"]);
  try {
    const how = { name: "AES-GCM", iv: sealed.subarray(0, 12), additionalData: utf8(context + "\n" + page.ref) };
    return new TextDecoder().decode(await crypto.subtle.decrypt(how, key, sealed.subarray(12))).trimEnd();
  } catch {
    throw new Failure(words.b_closed);
  }
}

// The items that a credential discloses; whether they are signed is another question.
function disclosed(credential) {
  return credential.split("~").slice(1, -1).map((text) => {
    const bytes = Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes))[1];
  });
}

async function openSealed(event) {
  event?.preventDefault(); // the code goes nowhere
  const place = element("code-result");
  opened = undefined;
  ask([]);
  try {
    say(place, words.b_opening);
    const credential = await unseal(plainCode());
    showItems(disclosed(credential), words.b_unsigned);
    opened = credential;
  } catch (error) {
    say(place, error instanceof Failure ? error.message : words.b_closed);
  }
}

function showItems(items, note) {
  const list = make("dl");
  for (const item of items) row(list, item.name, make("bdi", item.value));
  element("code-result").replaceChildren(list, make("p", note, { class: "other" }));
  ask(items);
}

// ask offers to compare what is printed with the identifier and the items shown.
function ask(items) {
  const { name, value } = element("typed").dataset;
  const rows = [{ name, value }, ...items].map((item, i) => {
    const id = "typed-" + i;
    const input = make("input", "", { id, type: "text", autocomplete: "off", spellcheck: "false" });
    const answer = make("output", "", { for: id });
    input.addEventListener("change", () => {
      const outcome = compare(item.value, input.value);
      answer.className = outcome;
      answer.textContent = outcome && (outcome === "fail" ? "✗ " : "✓ ") + words["b_typed_" + outcome];
    });
    const p = make("p");
    p.append(make("label", item.name, { for: id }), make("br"), input, " ", answer);
    return p;
  });
  element("typed").replaceChildren(...rows);
}

// compare answers "pass", "part" when some of what is shown is hidden, "fail", or ""
// when nothing was typed. Width, case and spaces do not count.
function compare(shown, typed) {
  const [a, b] = [shown, typed].map((text) => [...text.normalize("NFKC").replace(/\s/g, "").toUpperCase()]);
  if (b.length === 0) return "";
  if (a.length !== b.length || !a.every((c, i) => c === "*" || c === b[i])) return "fail";
  return a.includes("*") ? "part" : "pass";
}

async function proven(verifier, ref, trust) {
  const nonce = hex(crypto.getRandomValues(new Uint8Array(16)));
  const proof = await fetched(`/v1/verify/${ref}/proof?nonce=${nonce}`, words.b_no_proof);
  const verdict = await verifier.verify(proof, trust.bytes, { at: new Date(), nonce });
  // A proof of another certificate would be as good a proof.
  if (verdict.statement && (verdict.statement.kind !== "certificate" || verdict.statement.id !== ref)) {
    verdict.overall = "bad_proof";
    verdict.reason = "the proof is about another record";
  }
  return verdict;
}

// signed answers whether an issuer signed a credential and the ledger, as far as that
// is proven, has its digest.
async function signed(verifier, credential, trust, statement) {
  const answer = await verifier.verifyCredential(credential, trust.bytes);
  if (answer.outcome !== "pass") return answer;
  if (!statement?.found) return { outcome: "", reason: "nothing is proven of its certificate" };
  if (verifier.credentialIsOf(answer.credential, statement)) return answer;
  return { outcome: "fail", reason: "the ledger holds another content under the reference of this credential" };
}

function verifyCertificate() {
  const place = element("browser-result");
  return run(place, element("check"), async (verifier) => {
    say(place, words.b_fetching);
    const trust = await trustFile();
    const verdict = await proven(verifier, page.ref, trust);
    const more = [];
    const code = plainCode();
    if (code && verdict.statement) more.push(["code", (await verifier.checkCodeMatches(verdict.statement, code)) ? "pass" : "fail"]);
    if (opened !== undefined) {
      const { outcome, credential } = await signed(verifier, opened, trust, verdict.statement);
      more.push(["items", outcome]);
      if (outcome === "pass") showItems(credential.byCode, words.b_signed);
      else if (outcome === "fail") {
        say(element("code-result"), words.b_no_items);
        ask([]);
      }
    }
    await show(place, verdict, trust, more, page.verdict);
  });
}

function verifyFile(event) {
  event.preventDefault(); // nothing is sent
  const place = element("file-result");
  return run(place, event.target.querySelector("button"), async (verifier) => {
    const file = element("file-input").files[0];
    if (!file) throw new Failure(words.file_none);
    if (file.size === 0 || file.size > maxFile) throw new Failure(words.file_large);
    const bytes = await bytesOf(file, words.file_none);
    const trust = await trustFile();
    say(place, words.b_checking);
    const text = new TextDecoder().decode(bytes).trim();
    if (/^ey[^~]*~/.test(text)) return showCredential(place, verifier, text, trust);
    const verdict = await verifier.verify(bytes, trust.bytes, { at: new Date() });
    const code = plainCode();
    const more = code && verdict.statement && verdict.statement.id === page.ref
      ? [["code", (await verifier.checkCodeMatches(verdict.statement, code)) ? "pass" : "fail"]] : [];
    await show(place, verdict, trust, more, undefined);
  });
}

// A credential holds personal data: nothing of it leaves the browser but the
// reference in it, for the proof of its certificate.
async function showCredential(place, verifier, text, trust) {
  const read = await verifier.verifyCredential(text, trust.bytes);
  if (read.outcome !== "pass") {
    return show(place, { overall: read.outcome === "fail" ? "bad_proof" : "cannot_check", reason: read.reason, checks: [] }, trust, [], undefined);
  }
  const verdict = await proven(verifier, read.credential.ref, trust);
  const { outcome, reason, credential } = await signed(verifier, text, trust, verdict.statement);
  if (outcome === "fail") Object.assign(verdict, { overall: "bad_proof", reason });
  await show(place, verdict, trust, [["items", outcome]], undefined, credential);
}

// What stands behind the "#" of the link is the check code. It stays with the
// reader when another language or size is chosen, and is never sent.
const code = /^#([2-9A-HJ-NP-Za-hj-np-z]{10,40})$/.exec(location.hash)?.[1];
if (code) {
  for (const a of document.querySelectorAll("nav a, .advice a[href^='?']")) a.hash = code;
}
element("file-form").addEventListener("submit", verifyFile);
element("file-note").textContent = element("file-note").dataset.kept;
if (element("browser")) {
  element("check").addEventListener("click", verifyCertificate);
  element("browser").hidden = false;
  element("code-form").addEventListener("submit", openSealed);
  element("paper-tools").hidden = false;
  if (code) {
    element("code").value = code.toUpperCase().replace(/.{4}(?=.)/g, "$& ");
    openSealed();
  } else ask([]);
}
