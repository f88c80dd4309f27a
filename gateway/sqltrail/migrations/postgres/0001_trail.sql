-- What the trail has applied of each log.
CREATE TABLE logs (
	department TEXT COLLATE "C" PRIMARY KEY,
	size BIGINT NOT NULL,
	anchored BIGINT NOT NULL,
	root BYTEA NOT NULL,
	seen BIGINT NOT NULL -- milliseconds since 1970, as all times
);

-- One row: the key of the numbers that stand for texts, and the next n. Every
-- writer changes it first, so that there is one writer at a time.
CREATE TABLE store (
	digest_key BYTEA NOT NULL,
	next_n BIGINT NOT NULL
);

-- The access records, in the order in which they came. Columns from resource on
-- are keyed 63-bit digests of the record's text, null for none: every list is a
-- walk along one index, and digests keep indexes small.
CREATE TABLE access (
	n BIGINT PRIMARY KEY,
	at BIGINT NOT NULL,
	log TEXT COLLATE "C" NOT NULL,
	idx BIGINT NOT NULL,
	side SMALLINT NOT NULL, -- 1 provider, 2 consumer
	provider TEXT COLLATE "C" NOT NULL,
	consumer TEXT COLLATE "C" NOT NULL,
	result TEXT COLLATE "C" NOT NULL,
	record_count BIGINT NOT NULL,
	resource BIGINT NOT NULL,
	grant_id BIGINT NOT NULL,
	purpose BIGINT NOT NULL,
	service_item BIGINT,
	operator BIGINT NOT NULL,
	case_ref BIGINT,
	subject BIGINT,
	call_id BIGINT NOT NULL,
	anchor_size BIGINT NOT NULL,
	record BYTEA NOT NULL -- canonical bytes: the log's entry
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
	call_id BIGINT NOT NULL,
	provider TEXT COLLATE "C" NOT NULL,
	consumer TEXT COLLATE "C" NOT NULL,
	state SMALLINT NOT NULL, -- 0 both, 1 provider only, 2 consumer only, 3 contradicting
	day TEXT COLLATE "C" NOT NULL,
	at BIGINT NOT NULL,
	repeated SMALLINT NOT NULL,
	provider_n BIGINT,
	provider_at BIGINT NOT NULL,
	provider_facts BIGINT NOT NULL,
	consumer_n BIGINT,
	consumer_at BIGINT NOT NULL,
	consumer_facts BIGINT NOT NULL,
	PRIMARY KEY (call_id, provider, consumer)
);
CREATE INDEX calls_open ON calls (provider, consumer, day, at, call_id) WHERE state <> 0;

-- How many calls are in each state.
CREATE TABLE pair_days (
	provider TEXT COLLATE "C" NOT NULL,
	consumer TEXT COLLATE "C" NOT NULL,
	day TEXT COLLATE "C" NOT NULL,
	in_both BIGINT NOT NULL,
	provider_only BIGINT NOT NULL,
	consumer_only BIGINT NOT NULL,
	contradicting BIGINT NOT NULL,
	PRIMARY KEY (provider, consumer, day)
);

-- What the auditor found wrong with a log.
CREATE TABLE findings (
	department TEXT COLLATE "C" NOT NULL,
	kind TEXT COLLATE "C" NOT NULL,
	place BIGINT NOT NULL,
	body TEXT NOT NULL,
	first_seen BIGINT NOT NULL,
	last_seen BIGINT NOT NULL,
	PRIMARY KEY (department, kind, place)
)
