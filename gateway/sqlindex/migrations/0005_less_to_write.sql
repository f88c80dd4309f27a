-- A block of a catalog batch writes two records for each entry, and every b-tree
-- that they stand in costs as much as storing them. What is left here is what some
-- list cannot do without.

-- The writes of a transaction are neighbours: two numbers find them.
ALTER TABLE transactions ADD COLUMN first_write INTEGER NOT NULL DEFAULT 0; -- writes.n of its first write, 0 when there is none
ALTER TABLE transactions ADD COLUMN write_count INTEGER NOT NULL DEFAULT 0;
UPDATE transactions SET (first_write, write_count) = (SELECT coalesce(min(n), 0), count(*) FROM writes w WHERE w.block = transactions.block AND w.tx = transactions.seq);
DROP INDEX writes_position;

-- A share type is one of three: it is tried on what the other filters leave.
DROP INDEX records_share;
DROP INDEX records_department_share;
DROP INDEX records_state_share;
DROP INDEX records_department_state_share;

-- Lists of changes are of these kinds.
DROP INDEX records_changed;
CREATE INDEX records_changed ON records (kind, changed, id) WHERE kind IN ('catalog', 'request', 'grant');

-- The search index merges its parts twice as seldom; a search then looks into a few more.
INSERT INTO search (search, rank) VALUES ('automerge', 8);

-- There are five roles: an inbox of all of them is merged from theirs.
DROP INDEX tasks_audience;
