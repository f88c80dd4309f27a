-- What lists, search, inboxes and counts need. Everything below is derived from
-- the current records: it is emptied here and derived anew from writes when the
-- index is opened, for stale says so until that is done.
ALTER TABLE progress ADD COLUMN stale INTEGER NOT NULL DEFAULT 0;
UPDATE progress SET stale = 1;

DROP TABLE records;

-- Current records: the last write of each and what lists filter by. A filter
-- column is "", 0 or NULL when the record's kind has no such thing or its JSON
-- cannot be read.
CREATE TABLE records (
  kind       TEXT NOT NULL,
  id         TEXT NOT NULL,
  write      INTEGER NOT NULL REFERENCES writes (n),
  department TEXT NOT NULL,    -- provider, issuer or owner
  consumer   TEXT NOT NULL,
  state      TEXT NOT NULL,
  share_type INTEGER NOT NULL,
  grant_id   TEXT NOT NULL,
  changed    INTEGER NOT NULL, -- transaction time of the write, microseconds since 1970
  due        INTEGER,          -- the earliest due time of the clocks that run, microseconds since 1970
  part_of    TEXT NOT NULL,    -- id without "~" and number, for the kinds that are parts of another record
  part       INTEGER NOT NULL, -- that number
  PRIMARY KEY (kind, id)
) WITHOUT ROWID;
-- One for each combination of filters that a list is walked by, each in order of
-- id: none reads records that it does not list.
CREATE INDEX records_department ON records (kind, department, id) WHERE department <> '';
CREATE INDEX records_state ON records (kind, state, id) WHERE state <> '';
CREATE INDEX records_share ON records (kind, share_type, id) WHERE share_type <> 0;
CREATE INDEX records_department_state ON records (kind, department, state, id) WHERE department <> '' AND state <> '';
CREATE INDEX records_department_share ON records (kind, department, share_type, id) WHERE department <> '' AND share_type <> 0;
CREATE INDEX records_state_share ON records (kind, state, share_type, id) WHERE state <> '' AND share_type <> 0;
CREATE INDEX records_department_state_share ON records (kind, department, state, share_type, id) WHERE department <> '' AND state <> '' AND share_type <> 0;
CREATE INDEX records_consumer ON records (kind, consumer, id) WHERE consumer <> '';
CREATE INDEX records_consumer_state ON records (kind, consumer, state, id) WHERE consumer <> '' AND state <> '';
CREATE INDEX records_department_consumer ON records (kind, department, consumer, id) WHERE department <> '' AND consumer <> '';
CREATE INDEX records_department_consumer_state ON records (kind, department, consumer, state, id) WHERE department <> '' AND consumer <> '' AND state <> '';
CREATE INDEX records_grant ON records (kind, grant_id, id) WHERE grant_id <> '';
CREATE INDEX records_changed ON records (kind, changed, id);
CREATE INDEX records_due ON records (kind, due, id) WHERE due IS NOT NULL;
CREATE INDEX records_part ON records (kind, part_of, part, id) WHERE part_of <> '';

-- Catalog entries as search sees them.
CREATE TABLE entries (
  doc         INTEGER PRIMARY KEY,  -- number of the write that first recorded it; its rowid in search
  code        TEXT NOT NULL UNIQUE,
  text        TEXT NOT NULL,        -- its words; see words.go
  facets      TEXT NOT NULL,        -- what search filters by, as tokens
  published   INTEGER NOT NULL,     -- whether the version in force is public
  compliant   INTEGER NOT NULL,     -- whether its content is valid by the rules of this program
  with_system INTEGER NOT NULL      -- whether it names its information system
);
CREATE INDEX entries_tally ON entries (compliant, with_system) WHERE published;

-- In which entries a token occurs, in order of doc. FTS5 walks several of these
-- lists at once and leaps over what is not in all, which makes one index of words
-- and filters. The tokens are ours: its own tokenizers know no Chinese word of two
-- characters.
CREATE VIRTUAL TABLE search USING fts5 (tokens, content = '', columnsize = 0, detail = none, tokenize = "ascii tokenchars '=_'");
CREATE VIRTUAL TABLE search_terms USING fts5vocab (search, instance);

-- What records wait for.
CREATE TABLE tasks (
  kind        TEXT NOT NULL,
  id          TEXT NOT NULL,
  seq         INTEGER NOT NULL, -- of several tasks of one record, from 0
  audience    TEXT NOT NULL,    -- a department, "@lead" or "@peer"
  parties     TEXT NOT NULL,    -- who is no peer: " bigdata civil ", or ""
  role        TEXT NOT NULL,
  transaction_name TEXT NOT NULL,
  due         INTEGER NOT NULL, -- microseconds since 1970; the largest number when there is none
  PRIMARY KEY (kind, id, seq)
) WITHOUT ROWID;
CREATE INDEX tasks_audience ON tasks (audience, due, kind, id, seq);
CREATE INDEX tasks_role ON tasks (audience, role, due, kind, id, seq);

-- The time limits that run.
CREATE TABLE clocks (
  kind  TEXT NOT NULL,
  id    TEXT NOT NULL,
  seq   INTEGER NOT NULL, -- of several clocks of one record, from 0
  event TEXT NOT NULL,
  due   INTEGER NOT NULL,
  PRIMARY KEY (kind, id, seq)
) WITHOUT ROWID;
CREATE INDEX clocks_due ON clocks (due, event);

-- What is counted of requests and grants; see Tally in gateway/index.
CREATE TABLE requests (
  id            TEXT PRIMARY KEY,
  decision      TEXT NOT NULL,
  without_basis INTEGER NOT NULL,
  answered      INTEGER NOT NULL, -- whether the provider answered
  late          INTEGER NOT NULL,
  answered_in   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE grants ( -- the active ones
  id     TEXT PRIMARY KEY,
  starts INTEGER NOT NULL,
  ends   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE grant_anchored (
  grant_id TEXT PRIMARY KEY,
  count    INTEGER NOT NULL -- access records of all departments that anchors count
) WITHOUT ROWID;
