-- How old the newest word about an order is: an older one that comes late changes nothing.
ALTER TABLE orders ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
