-- What the ledger stores is kept as it is stored, and records are told when they are
-- read: an entry of a batch is half as long so. A b-tree stands only where a list or a
-- look-up by key needs one: a record that was written once has no history, a name is
-- found by its digest alone, tasks have one tree instead of two and clocks are counted.
-- The blocks are read anew from the ledger.
DROP TABLE writes;
DROP TABLE records;
DROP TABLE entries;
DROP TABLE search_terms;
DROP TABLE search;
DROP TABLE tasks;
DROP TABLE clocks;
DELETE FROM blocks;
DELETE FROM transactions;
DELETE FROM lives;
DELETE FROM requests;
DELETE FROM grants;
DELETE FROM grant_anchored;
UPDATE progress SET next_block = 0, stale = 0;

-- Every write of every transaction, in ledger order: n grows with (block, tx, order).
CREATE TABLE writes (
  n       INTEGER PRIMARY KEY,
  block   INTEGER NOT NULL,
  tx      INTEGER NOT NULL, -- transactions.seq
  key     TEXT NOT NULL,
  deleted INTEGER NOT NULL,
  counts  INTEGER NOT NULL, -- whether it changed a record: the transaction is valid and the key known
  event   INTEGER NOT NULL, -- n of the catalog event that tells the record from value; 0 when value is the record
  name    INTEGER,          -- 60 bits of the id, of a write that counts to a catalog name
  value   BLOB
);
CREATE INDEX writes_name ON writes (name) WHERE name IS NOT NULL;

-- The writes that count of every record that has more than one, and all of one that was
-- deleted. Names have none.
CREATE TABLE history (
  key TEXT NOT NULL,
  n   INTEGER NOT NULL REFERENCES writes (n),
  PRIMARY KEY (key, n)
) WITHOUT ROWID;

-- Current records but names: the last write of each and what lists filter by. A
-- filter column is "", 0 or NULL when the record's kind has no such thing or its JSON
-- cannot be read.
CREATE TABLE records (
  kind       TEXT NOT NULL,
  id         TEXT NOT NULL,
  write      INTEGER NOT NULL REFERENCES writes (n),
  doc        INTEGER NOT NULL, -- of a catalog entry; 0 otherwise
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
CREATE INDEX records_department ON records (kind, department, id) WHERE department <> '';
CREATE INDEX records_state ON records (kind, state, id) WHERE state <> '';
CREATE INDEX records_department_state ON records (kind, department, state, id) WHERE department <> '' AND state <> '';
CREATE INDEX records_consumer ON records (kind, consumer, id) WHERE consumer <> '';
CREATE INDEX records_consumer_state ON records (kind, consumer, state, id) WHERE consumer <> '' AND state <> '';
CREATE INDEX records_department_consumer ON records (kind, department, consumer, id) WHERE department <> '' AND consumer <> '';
CREATE INDEX records_department_consumer_state ON records (kind, department, consumer, state, id) WHERE department <> '' AND consumer <> '' AND state <> '';
CREATE INDEX records_grant ON records (kind, grant_id, id) WHERE grant_id <> '';
CREATE INDEX records_changed ON records (kind, changed, id) WHERE kind IN ('catalog', 'request', 'grant');
CREATE INDEX records_due ON records (kind, due, id) WHERE due IS NOT NULL;
CREATE INDEX records_part ON records (kind, part_of, part, id) WHERE part_of <> '';

-- Catalog entries as search and counts see them.
CREATE TABLE entries (
  doc    INTEGER PRIMARY KEY, -- number of the write that first recorded it; its rowid in search
  code   TEXT NOT NULL,
  text   TEXT NOT NULL,       -- its words; see words.go
  public INTEGER NOT NULL     -- 0, or of one whose version in force is public 1, plus 2 when its content is valid, plus 4 when it names its system
);
CREATE INDEX entries_public ON entries (public) WHERE public <> 0;

-- In which entries a token occurs, in order of doc. See 0002; the settings are those of
-- 0005 and 0008.
CREATE VIRTUAL TABLE search USING fts5 (tokens, content = '', columnsize = 0, detail = none, tokenize = "ascii tokenchars '=_'");
CREATE VIRTUAL TABLE search_terms USING fts5vocab (search, instance);
INSERT INTO search (search, rank) VALUES ('automerge', 8);
INSERT INTO search (search, rank) VALUES ('pgsz', 1000);

-- What records wait for, in the order of inboxes. A task of kind certificate has the
-- id of a batch: it is that of all certificates in it that wait.
CREATE TABLE tasks (
  audience    TEXT NOT NULL,    -- a department, "@lead" or "@peer"
  role        TEXT NOT NULL,
  due         INTEGER NOT NULL, -- microseconds since 1970; the largest number when there is none
  kind        TEXT NOT NULL,
  id          TEXT NOT NULL,
  seq         INTEGER NOT NULL, -- of several tasks of one record, from 0
  parties     TEXT NOT NULL,    -- who is no peer: " bigdata civil ", or ""
  transaction_name TEXT NOT NULL,
  PRIMARY KEY (audience, role, due, kind, id, seq)
) WITHOUT ROWID;

-- How many time limits run that are due at a moment.
CREATE TABLE clocks (
  due   INTEGER NOT NULL, -- microseconds since 1970
  event TEXT NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (due, event)
) WITHOUT ROWID;
