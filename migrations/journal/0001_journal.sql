-- The journal: every event of every tenant, in the order in which it became durable.
CREATE TABLE journal (
    position  INTEGER PRIMARY KEY,            -- dense, from 1
    kind      TEXT    NOT NULL,               -- routing key
    payload   BLOB    NOT NULL,               -- the event as JSON
    checksum  INTEGER NOT NULL                -- CRC-32 over position, kind and payload
) STRICT;

-- How far each consumer group has come: everything up to here is done, waits in retries or lies in dead_letters.
CREATE TABLE positions (
    consumer_group TEXT    PRIMARY KEY,
    position       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Events that failed and come again, and the events of the same tenant that wait behind them (attempt 0).
CREATE TABLE retries (
    consumer_group TEXT    NOT NULL,
    position       INTEGER NOT NULL,
    tenant_id      BLOB    NOT NULL,
    attempt        INTEGER NOT NULL,          -- how often it failed
    due_at         INTEGER NOT NULL,          -- microseconds since 1970
    first_at       INTEGER NOT NULL,
    last_error     TEXT    NOT NULL,
    kind           TEXT    NOT NULL,
    payload        BLOB    NOT NULL,
    PRIMARY KEY (consumer_group, position)
) STRICT, WITHOUT ROWID;

-- Events that were given up, with why.
CREATE TABLE dead_letters (
    consumer_group TEXT    NOT NULL,
    position       INTEGER NOT NULL,
    tenant_id      BLOB    NOT NULL,
    attempts       INTEGER NOT NULL,
    first_at       INTEGER NOT NULL,
    last_at        INTEGER NOT NULL,
    cause          TEXT    NOT NULL,
    kind           TEXT    NOT NULL,
    payload        BLOB    NOT NULL,
    PRIMARY KEY (consumer_group, position)
) STRICT, WITHOUT ROWID;

-- Rows of the journal that no longer read as what was written, kept as they are for whoever looks into it.
CREATE TABLE quarantine (
    position INTEGER PRIMARY KEY,
    found_at INTEGER NOT NULL,
    reason   TEXT    NOT NULL,
    kind     TEXT,
    payload  BLOB
) STRICT;
