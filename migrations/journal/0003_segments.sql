-- What one commit made durable is one row: a line for each event, `position checksum kind json`, the checksum in
-- eight hexadecimal digits. Positions are dense from 1 over all rows.
CREATE TABLE segments (
    first INTEGER PRIMARY KEY,                -- position of its first event
    last  INTEGER NOT NULL,                   -- and of its last
    lines BLOB    NOT NULL
) STRICT;
INSERT INTO segments (first, last, lines)
SELECT position, position, CAST(printf('%d %08x ', position, checksum) || kind || ' ' || payload || x'0a' AS BLOB)
FROM journal;
DROP TABLE journal;
