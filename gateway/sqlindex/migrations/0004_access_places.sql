-- The access records again, with fewer trees to keep: of ten that a record was put
-- into, six held one of a few values, such as its grant. They are read anew from
-- the log, and with them what is derived from them.
DROP TABLE access;
DELETE FROM access_times;
DELETE FROM grant_use;
DELETE FROM grant_minute;
DELETE FROM grant_item;
UPDATE progress SET next_access = 0;

CREATE TABLE access (
  idx          INTEGER PRIMARY KEY, -- leaf index in the log
  at           INTEGER NOT NULL,    -- microseconds since 1970
  direction    TEXT NOT NULL,
  ok           INTEGER NOT NULL,    -- whether the result was "ok"
  call_id      TEXT NOT NULL,
  grant_id     TEXT NOT NULL,
  case_ref     TEXT NOT NULL,
  subject_ref  TEXT NOT NULL,
  record       BLOB NOT NULL        -- canonical JSON: the leaf
);
-- Every index ends with the rowid, idx: equal values come in log order unsorted.
CREATE INDEX access_call ON access (call_id);
CREATE INDEX access_case ON access (case_ref) WHERE case_ref <> '';
CREATE INDEX access_subject ON access (subject_ref) WHERE subject_ref <> '';

-- Where in each run of 256 log entries a grant, catalog code, department, purpose or
-- service item is named: one row for all of a run's records that name the same.
CREATE TABLE access_places (
  term   INTEGER NOT NULL, -- 63 bits of a digest of field and value
  run    INTEGER NOT NULL, -- idx / 256
  places BLOB NOT NULL,    -- idx % 256 of each, a byte each, in ascending order
  PRIMARY KEY (term, run)
) WITHOUT ROWID;
