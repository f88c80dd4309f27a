-- Certificates have no rows of their own: a list walks the lives that they share in
-- their batches. What is derived from the records is derived anew.
DROP TABLE records;
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

-- What became of the certificates of each issuing batch: the lives of the last status
-- that fits the batch, and whose each is. A task of kind certificate has the id of a
-- batch: it is that of all certificates in it that wait.
CREATE TABLE lives (
  batch        TEXT NOT NULL,
  life         INTEGER NOT NULL, -- in the order of the status
  department   TEXT NOT NULL,    -- issuer
  state        TEXT NOT NULL,
  changed      INTEGER NOT NULL, -- transaction time of write, microseconds since 1970
  tx_id        TEXT NOT NULL,    -- of the transaction that the life names as its last
  write        INTEGER NOT NULL REFERENCES writes (n), -- of the status by that transaction
  issued       INTEGER NOT NULL REFERENCES writes (n), -- of the batch
  status       INTEGER NOT NULL REFERENCES writes (n), -- of the status
  certificates BLOB NOT NULL,    -- rows of the batch, a byte each, in ascending order
  PRIMARY KEY (batch, life)
) WITHOUT ROWID;
CREATE INDEX lives_state ON lives (state, batch);
CREATE INDEX lives_department ON lives (department, batch);
CREATE INDEX lives_department_state ON lives (department, state, batch);

DELETE FROM entries;
INSERT INTO search (search) VALUES ('delete-all');
DELETE FROM tasks;
DELETE FROM clocks;
DELETE FROM requests;
DELETE FROM grants;
DELETE FROM grant_anchored;
UPDATE progress SET stale = 1;
