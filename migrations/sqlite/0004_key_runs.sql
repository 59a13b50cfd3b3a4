-- Keys come in random order. An index of all of them is hit all over by every batch, which then writes nearly all of its
-- pages again, the more the longer the shop is open. One that is cut into runs of 16,384 events is hit in its last run
-- only; a key is looked for in one run after the other, newest first, which is rare: only when it may have been used.
DROP INDEX sales_key;
CREATE INDEX sales_key ON sales (sequence >> 14, key_hash) WHERE key_hash IS NOT NULL;
