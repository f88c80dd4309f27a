-- A name's key holds the name itself and the code of the entry that has it, and no event
-- tells it. Those of one provider are found side by side. The blocks are read anew from
-- the ledger.
DROP TABLE writes;
DELETE FROM history;
DELETE FROM records;
DELETE FROM entries;
INSERT INTO search (search) VALUES ('delete-all');
DELETE FROM tasks;
DELETE FROM clocks;
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
  counts  INTEGER NOT NULL, -- whether it changed a record or a name: the transaction is valid and the key known
  event   INTEGER NOT NULL, -- n of the catalog event that tells the record from value; 0 when value is the record
  value   BLOB
);

-- The writes that count to catalog names.
CREATE TABLE names (
  number INTEGER NOT NULL, -- of provider and name; two names may have one
  write  INTEGER NOT NULL REFERENCES writes (n),
  PRIMARY KEY (number, write)
) WITHOUT ROWID;
