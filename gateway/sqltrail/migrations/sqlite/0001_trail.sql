-- What the trail has applied of each log.
CREATE TABLE logs (
	department TEXT PRIMARY KEY,
	size INTEGER NOT NULL,
	anchored INTEGER NOT NULL,
	root BLOB NOT NULL,
	seen INTEGER NOT NULL -- milliseconds since 1970, as all times
) WITHOUT ROWID;

-- One row: the key of the numbers that stand for texts, and the next n. Every
-- writer changes it first, so that there is one writer at a time.
CREATE TABLE store (
	digest_key BLOB NOT NULL,
	next_n INTEGER NOT NULL
);

-- The access records, in the order in which they came. Columns from resource on
-- are keyed 63-bit digests of the record's text, null for none: every list is a
-- walk along one index, and digests keep indexes small.
CREATE TABLE access (
	n INTEGER PRIMARY KEY,
	at INTEGER NOT NULL,
	log TEXT NOT NULL,
	idx INTEGER NOT NULL,
	side INTEGER NOT NULL, -- 1 provider, 2 consumer
	provider TEXT NOT NULL,
	consumer TEXT NOT NULL,
	result TEXT NOT NULL,
	record_count INTEGER NOT NULL,
	resource INTEGER NOT NULL,
	grant_id INTEGER NOT NULL,
	purpose INTEGER NOT NULL,
	service_item INTEGER,
	operator INTEGER NOT NULL,
	case_ref INTEGER,
	subject INTEGER,
	call_id INTEGER NOT NULL,
	anchor_size INTEGER NOT NULL,
	record BLOB NOT NULL -- canonical bytes: the log's entry
);
CREATE INDEX access_at ON access (at, log, idx);
CREATE INDEX access_provider ON access (provider, side, at, log, idx);
CREATE INDEX access_consumer ON access (consumer, side, at, log, idx);
CREATE INDEX access_result ON access (result, at, log, idx);
CREATE INDEX access_resource ON access (resource, at, log, idx);
CREATE INDEX access_grant ON access (grant_id, at, log, idx);
CREATE INDEX access_purpose ON access (purpose, at, log, idx);
CREATE INDEX access_service ON access (service_item, at, log, idx) WHERE service_item IS NOT NULL;
CREATE INDEX access_operator ON access (operator, at, log, idx);
CREATE INDEX access_case ON access (case_ref, at, log, idx) WHERE case_ref IS NOT NULL;
CREATE INDEX access_subject ON access (subject, at, log, idx) WHERE subject IS NOT NULL;
CREATE INDEX access_call ON access (call_id, at, log, idx);

-- One row per call: the record of each side that is compared. Facts are digests of what both
-- sides must say alike.
CREATE TABLE calls (
	call_id INTEGER NOT NULL,
	provider TEXT NOT NULL,
	consumer TEXT NOT NULL,
	state INTEGER NOT NULL, -- 0 both, 1 provider only, 2 consumer only, 3 contradicting
	day TEXT NOT NULL,
	at INTEGER NOT NULL,
	repeated INTEGER NOT NULL,
	provider_n INTEGER,
	provider_at INTEGER NOT NULL,
	provider_facts INTEGER NOT NULL,
	consumer_n INTEGER,
	consumer_at INTEGER NOT NULL,
	consumer_facts INTEGER NOT NULL,
	PRIMARY KEY (call_id, provider, consumer)
) WITHOUT ROWID;
CREATE INDEX calls_open ON calls (provider, consumer, day, at, call_id) WHERE state <> 0;

-- How many calls are in each state.
CREATE TABLE pair_days (
	provider TEXT NOT NULL,
	consumer TEXT NOT NULL,
	day TEXT NOT NULL,
	in_both INTEGER NOT NULL,
	provider_only INTEGER NOT NULL,
	consumer_only INTEGER NOT NULL,
	contradicting INTEGER NOT NULL,
	PRIMARY KEY (provider, consumer, day)
) WITHOUT ROWID;

-- What the auditor found wrong with a log.
CREATE TABLE findings (
	department TEXT NOT NULL,
	kind TEXT NOT NULL,
	place INTEGER NOT NULL,
	body TEXT NOT NULL,
	first_seen INTEGER NOT NULL,
	last_seen INTEGER NOT NULL,
	PRIMARY KEY (department, kind, place)
) WITHOUT ROWID
