-- What the checks before a release and the watch for unusual use read. The tables
-- are derived from access, which is kept.
ALTER TABLE progress ADD COLUMN judged INTEGER NOT NULL DEFAULT 0; -- log entries judged for unusual use

DROP TABLE grant_use;

-- Calls with result "ok" per grant, direction and hour: a quota is checked before
-- every release and must not count a grant's whole history each time.
CREATE TABLE grant_use (
  grant_id  TEXT NOT NULL,
  direction TEXT NOT NULL,
  hour      INTEGER NOT NULL, -- hours since 1970, of the record's time
  uses      INTEGER NOT NULL,
  data      INTEGER NOT NULL, -- data records released
  largest   INTEGER NOT NULL, -- of the call that released the most
  PRIMARY KEY (grant_id, direction, hour)
) WITHOUT ROWID;
INSERT INTO grant_use
SELECT grant_id, direction, (at - (at % 3600000000 + 3600000000) % 3600000000) / 3600000000, count(*), sum(data), max(data)
FROM (SELECT grant_id, direction, at, min(max(CAST(record AS TEXT) ->> '$.recordCount', 0), 1 << 40) AS data FROM access WHERE ok)
GROUP BY 1, 2, 3;

-- The same per minute, and the calls with another result.
CREATE TABLE grant_minute (
  grant_id  TEXT NOT NULL,
  direction TEXT NOT NULL,
  minute    INTEGER NOT NULL, -- minutes since 1970
  uses      INTEGER NOT NULL,
  refused   INTEGER NOT NULL,
  PRIMARY KEY (grant_id, direction, minute)
) WITHOUT ROWID;
INSERT INTO grant_minute
SELECT grant_id, direction, (at - (at % 60000000 + 60000000) % 60000000) / 60000000, count(*) FILTER (WHERE ok), count(*) FILTER (WHERE NOT ok)
FROM access GROUP BY 1, 2, 3;

-- The service items of a grant's calls with result "ok".
CREATE TABLE grant_item (
  grant_id     TEXT NOT NULL,
  direction    TEXT NOT NULL,
  service_item TEXT NOT NULL,
  earliest     INTEGER NOT NULL, -- microseconds since 1970
  PRIMARY KEY (grant_id, direction, service_item)
) WITHOUT ROWID;
INSERT INTO grant_item SELECT grant_id, direction, service_item, min(at) FROM access WHERE ok GROUP BY 1, 2, 3;
