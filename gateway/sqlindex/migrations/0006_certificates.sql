-- Where the certificates of current records stand: the number of the write of
-- their issuing batch, and in part their row in it. Their write is that of the
-- batch's status.
ALTER TABLE records ADD COLUMN batch INTEGER;
