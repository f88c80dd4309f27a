"use strict";

// The page for auditors. The token lives in one variable of this script and is
// gone with the page; nothing is stored, and no address holds what was asked
// for. Everything shown is set as text, never as markup.
(() => {
const $ = (id) => document.getElementById(id);
const PAGE = 50, SEARCHES = 20;

let lang = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
let token = "";
let data;

function forget() {
	token = "";
	// query: filters of the trace shown; starts: cursors of the pages up to it
	data = { scope: "", logs: null, alarms: null, rows: null, totals: null, query: null, starts: [""], next: "", failures: {} };
}
forget();

const t = (key, ...args) => (TEXT[lang][key] ?? key).replace(/\{(\d)\}/g, (_, i) => args[i]);
const word = (prefix, key) => TEXT[lang][prefix + key] ?? key;
const count = (n) => new Intl.NumberFormat(lang).format(n);

const clock = new Intl.DateTimeFormat("sv-SE", {
	timeZone: "Asia/Shanghai", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
});
function time(text) {
	const at = new Date(text);
	return Number.isNaN(at.getTime()) || at.getUTCFullYear() < 1900 ? t("none") : clock.format(at);
}

// el makes an element. Attributes are set as such; children are nodes or text.
function el(name, attributes, ...children) {
	const e = document.createElement(name);
	for (const [key, value] of Object.entries(attributes ?? {})) e.setAttribute(key, value);
	e.append(...children.filter((c) => c !== null && c !== ""));
	return e;
}
const line = (...children) => el("p", {}, ...children);

class Failure extends Error {
	constructor(status, problem) {
		super(problem?.detail ?? "");
		this.status = status;
		this.trace = problem?.traceId ?? "";
	}
}
class Left extends Error {}

// call asks the gateway. What comes back after the token was forgotten is dropped.
async function call(path) {
	const used = token;
	let response;
	try {
		response = await fetch(path, { headers: { Authorization: "Bearer " + used }, cache: "no-store", credentials: "omit", redirect: "error" });
	} catch {
		if (used !== token) throw new Left();
		throw new Failure(0);
	}
	if (used !== token) throw new Left();
	if (response.ok) return response;
	let problem = null;
	try { problem = await response.json(); } catch { /* not from the gateway */ }
	throw new Failure(response.status, problem);
}
const json = async (path) => (await call(path)).json();

function explain(failure) {
	if (!(failure instanceof Failure)) return t("failed", String(failure));
	if (failure.status === 0) return t("unreachable");
	if (failure.status === 401) return t("bad_token");
	if (failure.status === 403) return t("not_auditor");
	return t("failed", failure.status + " " + failure.message) + (failure.trace ? " " + t("trace_id", failure.trace) : "");
}

function showError(text) {
	$("error").textContent = text;
	$("error").hidden = text === "";
}
function say(text) { $("status").textContent = text; }

// part loads one part of the page; a part that fails says so in its own place.
async function part(name, load, show) {
	try {
		await load();
		delete data.failures[name];
	} catch (failure) {
		if (failure instanceof Left) return false;
		if (failure.status === 401) {
			leave();
			showError(t("bad_token"));
			return false;
		}
		data.failures[name] = failure;
	}
	show();
	return !data.failures[name];
}

async function enter(event) {
	event.preventDefault();
	const given = $("token").value.trim();
	$("token").value = "";
	showError("");
	if (!/^[!-~]+$/.test(given)) {
		showError(t("bad_token"));
		return;
	}
	forget();
	token = given;
	say(t("loading"));
	$("enter").inert = true;
	await part("logs", async () => {
		const answer = await json("/v1/audit/logs");
		data.logs = answer.items;
		data.scope = answer.scope;
	}, () => {});
	$("enter").inert = false;
	if (token === "") return;
	const failure = data.failures.logs;
	if (failure?.status === 403) {
		leave();
		showError(explain(failure));
		return;
	}
	$("enter").hidden = true;
	$("intro").hidden = true;
	$("work").hidden = false;
	$("leave").hidden = false;
	for (const field of document.querySelectorAll(".all")) {
		field.hidden = data.scope !== "all";
	}
	showHealth();
	await part("alarms", async () => {
		const answer = await json("/v1/alarms?state=open&limit=200");
		data.alarms = answer.items;
		data.moreAlarms = answer.next !== "";
	}, showHealth);
	await search();
	$("health-title").scrollIntoView();
}

function leave() {
	forget();
	$("filters").reset();
	for (const id of ["logs", "alarms", "totals", "rows"]) $(id).replaceChildren();
	for (const id of ["verdict", "scope"]) $(id).textContent = "";
	$("work").hidden = true;
	$("leave").hidden = true;
	$("enter").hidden = false;
	$("intro").hidden = false;
	showError("");
	say("");
}

// Health of the logs.

// judge answers how a log stands: "bad", "open" (not all is verified) or "good",
// and in which words.
function judge(log) {
	const parts = [];
	let level = "good";
	if (log.audited) {
		const all = log.audited.size >= log.anchoredSize;
		if (!all) level = "open";
		parts.push(el("p", { class: all ? "good" : "open" }, all ? t("verified_all", count(log.audited.size)) : t("verified_part", count(log.audited.size), count(log.anchoredSize))));
	} else if (log.watched) {
		const all = log.watched.size >= log.anchoredSize;
		if (!all) level = "open";
		parts.push(el("p", { class: all ? "good" : "open" }, t(all ? "watched_all" : "watched_part", count(log.watched.size), count(log.anchoredSize))));
	} else {
		level = "open";
		parts.push(el("p", { class: "open" }, t("not_verified")));
	}
	if (log.watched?.problem) {
		level = "bad";
		parts.push(el("p", { class: "bad" }, t("problem", log.watched.problem) + (log.watched.since ? " " + t("since", time(log.watched.since)) : "")));
	}
	if (log.findings.length > 0) {
		level = "bad";
		const list = el("ul", {});
		for (const f of log.findings) {
			list.append(el("li", {}, el("span", { class: "bad" }, t("finding", word("kind_", f.kind), f.text)), " ", el("span", { class: "quiet" }, t("finding_at", count(f.place), time(f.firstSeen), time(f.lastSeen)))));
		}
		if (log.moreFindings) list.append(el("li", { class: "bad" }, t("more_findings")));
		parts.push(el("p", { class: "bad" }, t("findings", log.moreFindings ? count(log.findings.length) + "+" : count(log.findings.length))), list);
	}
	return { level, parts };
}

function table(caption, heads, rows) {
	const head = el("tr", {});
	for (const h of heads) head.append(el("th", { scope: "col" }, h));
	const body = el("tbody", {});
	for (const cells of rows) {
		const row = el("tr", {});
		cells.forEach((c, i) => row.append(el(i === 0 ? "th" : "td", { ...(i === 0 ? { scope: "row" } : {}), "data-label": heads[i] }, ...(Array.isArray(c) ? c : [c]))));
		body.append(row);
	}
	return el("table", {}, el("caption", {}, caption), el("thead", {}, head), body);
}

function verdict(level, text) {
	$("verdict").className = "message " + level;
	$("verdict").textContent = text;
	if (level === "bad") $("verdict").setAttribute("role", "alert");
	else $("verdict").removeAttribute("role");
}

function showHealth() {
	$("logs").replaceChildren();
	$("scope").textContent = data.scope === "" ? "" : t("scope_" + data.scope);
	if (data.failures.logs) {
		verdict("bad", t("logs_unknown") + " " + explain(data.failures.logs));
	} else if (data.logs) {
		const judged = data.logs.map((log) => ({ log, ...judge(log) }));
		const bad = judged.filter((j) => j.level === "bad").length, open = judged.filter((j) => j.level === "open").length;
		if (bad > 0) verdict("bad", t("verdict_bad", count(bad), count(judged.length)));
		else if (judged.length === 0) verdict("open", t("verdict_none"));
		else if (open > 0) verdict("open", t("verdict_open", count(open), count(judged.length)));
		else verdict("good", t("verdict_good", count(judged.length)));
		if (judged.length > 0) {
			$("logs").append(table(t("logs_caption"), [t("log"), t("anchored"), t("state"), t("seen")], judged.map(({ log, parts }) => [
				log.department, el("span", { class: "number" }, count(log.anchoredSize)), parts, el("span", { class: "time" }, log.audited ? time(log.audited.seen) : t("none")),
			])));
		}
	}
	showAlarms();
}

function showAlarms() {
	$("alarms").replaceChildren();
	if (data.failures.alarms) {
		$("alarms").append(el("p", { class: "message bad" }, t("alarms_unknown") + " " + explain(data.failures.alarms)));
	} else if (data.alarms?.length === 0) {
		$("alarms").append(el("p", { class: "good" }, t("no_alarms")));
	} else if (data.alarms) {
		const n = count(data.alarms.length) + (data.moreAlarms ? "+" : "");
		$("alarms").append(el("p", { class: "message bad" }, t("open_alarms", n)), table(t("alarms_caption"), [t("alarm"), t("about"), t("figures"), t("raised")], data.alarms.map(({ record: a }) => [
			el("span", { class: "bad" }, word("kind_", a.kind)), a.about,
			[line(a.figures), el("p", { class: "quiet" }, t("alarm_rule", a.rule, a.subject)), a.proven ? el("p", { class: "bad" }, t("proven")) : ""],
			[el("span", { class: "time" }, time(a.txTime)), " ", t("raised_by", a.department)],
		])));
	}
}

// Trace.

function filters() {
	const query = {};
	for (const [name, value] of new FormData($("filters"))) {
		const text = value.trim();
		const offered = !$(name).closest("div").hidden;
		if (text === "" || !offered || (name === "order" && text === "newest")) continue;
		query[name] = name === "from" || name === "to" ? text + (text.length === 16 ? ":00" : "") + "+08:00" : text;
	}
	return query;
}

async function search(event) {
	event?.preventDefault();
	data.query = filters();
	data.starts = [""];
	data.totals = null;
	delete data.failures.totals;
	await load();
	if (event) $("trace-title").focus();
	if (data.scope === "all" && !data.failures.rows) {
		const { order, ...query } = data.query;
		await part("totals", async () => { data.totals = await json("/v1/audit/totals?" + new URLSearchParams(query)); }, showTotals);
	}
}

// load fetches the page that begins at the last of data.starts. The gateway may
// answer fewer records than asked for although more follow.
async function load() {
	say(t("loading"));
	const query = data.query;
	await part("rows", async () => {
		const rows = [];
		let after = data.starts.at(-1);
		for (let i = 0; i < SEARCHES && rows.length < PAGE; i++) {
			const answer = await json("/v1/audit/trace?" + new URLSearchParams({ ...query, limit: PAGE - rows.length, ...(after ? { cursor: after } : {}) }));
			rows.push(...answer.items);
			after = answer.next;
			if (after === "") break;
		}
		if (query !== data.query) throw new Left();
		data.rows = rows;
		data.next = after;
	}, () => { showTotals(); showRows(); });
}

function showTotals() {
	$("totals").replaceChildren();
	if (data.failures.totals) {
		$("totals").append(el("p", { class: "message bad" }, explain(data.failures.totals)));
	}
	if (data.failures.rows || !data.rows) return;
	let totals = data.totals;
	const own = data.scope !== "all";
	if (own) totals = pageTotals();
	if (!totals) return;
	const list = el("ul", {});
	for (const r of totals.byResult) {
		list.append(el("li", { class: r.result === "ok" ? "" : "bad" }, t("total", word("direction_", r.direction), result(r.result), count(r.records), count(r.dataRecords))));
	}
	$("totals").append(line(t(own ? "totals_page" : "totals", count(totals.records), count(totals.dataRecords))), list);
}

function pageTotals() {
	const totals = { records: 0, dataRecords: 0, byResult: [] };
	for (const { record: r } of data.rows) {
		let of = totals.byResult.find((x) => x.direction === r.direction && x.result === r.result);
		if (!of) totals.byResult.push(of = { direction: r.direction, result: r.result, records: 0, dataRecords: 0 });
		of.records++;
		of.dataRecords += r.recordCount;
		totals.records++;
		totals.dataRecords += r.recordCount;
	}
	return totals;
}

const result = (code) => word("result_", code);

function showRows() {
	$("rows").replaceChildren();
	$("previous").disabled = data.starts.length < 2;
	$("next").disabled = !!data.failures.rows || data.next === "";
	$("csv").disabled = !!data.failures.rows || !data.rows?.length;
	if (data.failures.rows) {
		$("rows").append(el("p", { class: "message bad" }, t("trace_unknown") + " " + explain(data.failures.rows)));
		say(t("trace_unknown"));
		return;
	}
	if (!data.rows) return;
	const n = data.rows.length;
	const said = n > 0 ? t("rows", count(data.starts.length), count(n)) : t(data.next === "" ? "no_rows" : "no_rows_yet");
	say(said);
	if (n === 0) {
		$("rows").append(el("p", { class: "message" }, said));
		return;
	}
	$("rows").append(table(t("trace_caption", said), [t("at"), t("parties"), t("what"), t("why"), t("who"), t("outcome"), t("evidence")], data.rows.map(cells)));
}

function cells(row) {
	const r = row.record, quiet = (text) => el("p", { class: "quiet" }, text), code = (text) => el("span", { class: "code" }, text);
	return [
		el("span", { class: "time" }, time(r.at)),
		[line(t("from_to", r.provider, r.consumer)), quiet(t("written_by", row.department, word("direction_", r.direction)))],
		[line(code(r.catalogCode), " ", t("version", r.catalogVersion)), line(r.items.join(t("comma"))), quiet(t("grant")), line(code(r.grantId))],
		[line(r.purpose), line(r.legalBasis), quiet(r.serviceItem), r.caseRef ? quiet(t("case_is", r.caseRef)) : "", r.subjectRef ? quiet(t("subject_is", r.subjectRef)) : ""],
		[line(t("role_of", r.operator, r.operatorRole)), quiet(r.system)],
		[el("p", { class: r.result === "ok" ? "good" : "bad" }, result(r.result)), r.result === "ok" ? "" : quiet(r.result), line(t("data_records", count(r.recordCount)))],
		evidence(row),
	];
}

function evidence(row) {
	const r = row.record, name = row.department + "-" + row.index;
	const button = (label, path, file) => {
		const b = el("button", { type: "button", class: "plain", "aria-label": label + " " + row.department + " " + row.index }, label);
		b.addEventListener("click", () => download(path, file));
		return b;
	};
	const files = el("div", { class: "files" });
	if (row.links.proof) {
		files.append(button(t("get_proof"), row.links.proof, "record-" + name + ".tlog-proof"), button(t("get_anchor"), row.links.anchor, "anchor-" + row.department + "-" + row.anchoredSize + ".zlproof"));
	}
	files.append(button(t("get_record"), row.links.record, "record-" + name + ".json"));
	const facts = el("dl", {});
	for (const [label, value] of [["call", r.callId], ["leaf", row.leafHash], ["request_digest", r.requestDigest], ["response_digest", r.responseDigest], ["channel", r.channel], ["responded", time(r.respondedAt)], ["logged", time(r.loggedAt)]]) {
		if (value) facts.append(el("dt", {}, t(label)), el("dd", { class: "code" }, value));
	}
	return [
		line(t("entry", row.department, count(row.index))),
		row.anchoredSize === null ? el("p", { class: "open" }, t("not_anchored")) : el("p", { class: "good" }, t("anchored_at", count(row.anchoredSize))),
		el("details", {}, el("summary", {}, t("details")), facts), files,
	];
}

function save(blob, file) {
	const url = URL.createObjectURL(blob);
	el("a", { href: url, download: file }).click();
	setTimeout(() => URL.revokeObjectURL(url), 60000);
}

async function download(path, file) {
	showError("");
	try {
		save(await (await call(path)).blob(), file);
		say(t("saved", file));
	} catch (failure) {
		if (failure instanceof Left) return;
		showError(explain(failure));
		$("error").scrollIntoView();
	}
}

const COLUMNS = ["at", "respondedAt", "loggedAt", "provider", "consumer", "direction", "catalogCode", "catalogVersion", "items", "grantId", "grantSeq", "purpose", "legalBasis", "serviceItem", "caseRef", "subjectRef", "operator", "operatorRole", "system", "channel", "result", "recordCount", "callId", "requestDigest", "responseDigest"];

// cell quotes a value for a file of comma-separated values. A spreadsheet takes
// what begins with certain characters for a formula; an apostrophe stops it.
function cell(value) {
	let text = Array.isArray(value) ? value.join("; ") : String(value ?? "");
	if (/^[=+\-@\t\r]/.test(text)) text = "'" + text;
	return '"' + text.replaceAll('"', '""') + '"';
}

function exportPage() {
	const lines = [["log", "index", "leafHash", "anchoredSize", ...COLUMNS].map(cell).join(",")];
	for (const row of data.rows) {
		lines.push([row.department, row.index, row.leafHash, row.anchoredSize, ...COLUMNS.map((c) => row.record[c])].map(cell).join(","));
	}
	save(new Blob(["\ufeff" + lines.join("\r\n") + "\r\n"], { type: "text/csv;charset=utf-8" }), "trace-" + clock.format(new Date()).replace(/[^0-9]/g, "") + ".csv");
}

function speak(language) {
	lang = language;
	document.documentElement.lang = t("lang");
	document.title = t("title");
	for (const e of document.querySelectorAll("[data-t]")) e.textContent = t(e.dataset.t);
	for (const e of document.querySelectorAll("[data-l]")) e.setAttribute("aria-label", t(e.dataset.l));
	$("language").textContent = t("other_lang_name");
	$("language").lang = t("other_lang");
	showError("");
	if (token === "") return;
	showHealth();
	showTotals();
	showRows();
}

$("enter").addEventListener("submit", enter);
$("leave").addEventListener("click", () => { leave(); $("token").focus(); });
$("language").addEventListener("click", () => speak(t("other_lang")));
$("filters").addEventListener("submit", search);
$("filters").addEventListener("reset", () => setTimeout(() => { if (token !== "") search(); })); // once the fields are empty
$("next").addEventListener("click", async () => { data.starts.push(data.next); await load(); $("trace-title").focus(); });
$("previous").addEventListener("click", async () => { data.starts.pop(); await load(); $("trace-title").focus(); });
$("csv").addEventListener("click", exportPage);
addEventListener("pagehide", leave);
})();
