-- The read model of one department's gateway. Every row follows from the ledger's
-- blocks or from the access log, so the whole file may be deleted at any time.

-- How far the index has read. One row; changed in the transaction that stores
-- what was read, so that a crash can neither skip nor repeat anything.
CREATE TABLE progress (
  one         INTEGER PRIMARY KEY CHECK (one = 1),
  next_block  INTEGER NOT NULL,
  next_access INTEGER NOT NULL
);
INSERT INTO progress (one, next_block, next_access) VALUES (1, 0, 0);

CREATE TABLE blocks (
  number INTEGER PRIMARY KEY,
  hash   TEXT NOT NULL,
  body   BLOB NOT NULL -- JSON of the block without its transactions
);

CREATE TABLE transactions (
  block INTEGER NOT NULL,
  seq   INTEGER NOT NULL, -- position in the block, from 0
  tx_id TEXT NOT NULL,
  body  BLOB NOT NULL,    -- JSON of the transaction without its writes
  PRIMARY KEY (block, seq)
) WITHOUT ROWID;
-- Not unique: a transaction ID can come again, marked DUPLICATE_TXID.
CREATE INDEX transactions_tx_id ON transactions (tx_id);

-- Every write of every transaction, in ledger order: n grows with (block, tx, order).
CREATE TABLE writes (
  n       INTEGER PRIMARY KEY,
  block   INTEGER NOT NULL,
  tx      INTEGER NOT NULL, -- transactions.seq
  key     TEXT NOT NULL,
  deleted INTEGER NOT NULL,
  value   BLOB,
  kind    TEXT NOT NULL,    -- "" when the write changed no record: invalid transaction or unknown key
  id      TEXT NOT NULL
);
CREATE INDEX writes_position ON writes (block, tx);
CREATE INDEX writes_record ON writes (kind, id) WHERE kind <> '';

-- Current records: the last write of each and what lists filter by. A filter
-- column is "" when the record's kind has no such thing or its JSON cannot be read.
CREATE TABLE records (
  kind       TEXT NOT NULL,
  id         TEXT NOT NULL,
  write      INTEGER NOT NULL REFERENCES writes (n),
  department TEXT NOT NULL, -- provider, issuer or owner
  consumer   TEXT NOT NULL,
  state      TEXT NOT NULL,
  grant_id   TEXT NOT NULL,
  text       TEXT NOT NULL, -- lower case
  PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX records_department ON records (kind, department, id) WHERE department <> '';
CREATE INDEX records_consumer ON records (kind, consumer, id) WHERE consumer <> '';
CREATE INDEX records_state ON records (kind, state, id) WHERE state <> '';
CREATE INDEX records_grant ON records (kind, grant_id, id) WHERE grant_id <> '';

CREATE TABLE access (
  idx          INTEGER PRIMARY KEY, -- leaf index in the log
  at           INTEGER NOT NULL,    -- microseconds since 1970
  direction    TEXT NOT NULL,
  ok           INTEGER NOT NULL,    -- whether the result was "ok"
  call_id      TEXT NOT NULL,
  grant_id     TEXT NOT NULL,
  catalog_code TEXT NOT NULL,
  provider     TEXT NOT NULL,
  consumer     TEXT NOT NULL,
  purpose      TEXT NOT NULL,
  service_item TEXT NOT NULL,
  case_ref     TEXT NOT NULL,
  subject_ref  TEXT NOT NULL,
  leaf_hash    BLOB NOT NULL,
  record       BLOB NOT NULL        -- canonical JSON
);
-- Every index ends with the rowid, idx: equal values come in log order unsorted.
CREATE INDEX access_call ON access (call_id);
CREATE INDEX access_grant ON access (grant_id);
CREATE INDEX access_catalog ON access (catalog_code);
CREATE INDEX access_provider ON access (provider);
CREATE INDEX access_consumer ON access (consumer);
CREATE INDEX access_purpose ON access (purpose);
CREATE INDEX access_service_item ON access (service_item);
CREATE INDEX access_case ON access (case_ref) WHERE case_ref <> '';
CREATE INDEX access_subject ON access (subject_ref) WHERE subject_ref <> '';

-- The span of times in each run of 1024 log entries. The log is in order of time
-- but for late entries, so this says in which part of it a span of time lies:
-- smaller than an index on at, and of use beside every other index.
CREATE TABLE access_times (
  chunk    INTEGER PRIMARY KEY, -- idx / 1024
  earliest INTEGER NOT NULL,
  latest   INTEGER NOT NULL
);

-- Uses with result "ok" per grant, direction and hour: a quota is checked before
-- every release and must not count a grant's whole history each time.
CREATE TABLE grant_use (
  grant_id  TEXT NOT NULL,
  direction TEXT NOT NULL,
  hour      INTEGER NOT NULL, -- hours since 1970, of the record's time
  uses      INTEGER NOT NULL,
  PRIMARY KEY (grant_id, direction, hour)
) WITHOUT ROWID;
