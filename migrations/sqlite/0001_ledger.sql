-- Tenants, catalogue, sales and the append-only inventory ledger.
-- Money is in centavos, quantities in thousandths, moments in microseconds since 1970; ids are 16 bytes.
-- Every key begins with the tenant, and every reference carries it: one tenant's row cannot point at another's.

CREATE TABLE tenants (
    id         BLOB    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    trade      TEXT    NOT NULL,
    active     INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE locations (
    tenant_id  BLOB    NOT NULL REFERENCES tenants (id),
    id         BLOB    NOT NULL,
    code       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    kind       TEXT    NOT NULL CHECK (kind IN ('STORE', 'WAREHOUSE')),
    is_default INTEGER NOT NULL,
    active     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX locations_one_default ON locations (tenant_id) WHERE is_default = 1;

CREATE TABLE units (
    tenant_id  BLOB    NOT NULL REFERENCES tenants (id),
    id         BLOB    NOT NULL,
    product_id BLOB    NOT NULL,
    base_sku   TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    sku        TEXT    NOT NULL,
    barcode    TEXT,
    kind       TEXT    NOT NULL,
    price      INTEGER NOT NULL CHECK (price >= 0),
    active     INTEGER NOT NULL,
    size       TEXT,
    color      TEXT,
    category   TEXT,
    brand      TEXT,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, sku)
) STRICT, WITHOUT ROWID;

CREATE TABLE sales (
    tenant_id   BLOB    NOT NULL,
    id          BLOB    NOT NULL,
    location_id BLOB    NOT NULL,
    sequence    INTEGER NOT NULL,             -- the event's number
    at          INTEGER NOT NULL,
    total       INTEGER NOT NULL,
    payment     TEXT    NOT NULL,
    created_by  TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    key_hash    INTEGER,                      -- indexed half of the idempotency key's hash
    key         TEXT,
    fingerprint BLOB,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, location_id) REFERENCES locations (tenant_id, id)
) STRICT; -- with a rowid: the index of keys, which every batch hits all over, has a third of the bytes
CREATE INDEX sales_key ON sales (key_hash) WHERE key_hash IS NOT NULL;

CREATE TABLE sale_lines (
    tenant_id  BLOB    NOT NULL,
    sale_id    BLOB    NOT NULL,
    line       INTEGER NOT NULL,
    unit_id    BLOB    NOT NULL,
    name       TEXT    NOT NULL,              -- name, SKU and price as sold
    sku        TEXT    NOT NULL,
    quantity   INTEGER NOT NULL CHECK (quantity > 0),
    unit_price INTEGER NOT NULL,
    subtotal   INTEGER NOT NULL,
    has_stock  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, sale_id, line)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    id           INTEGER PRIMARY KEY,         -- order of writing
    tenant_id    BLOB    NOT NULL,
    unit_id      BLOB    NOT NULL,
    location_id  BLOB    NOT NULL,
    sequence     INTEGER NOT NULL,            -- the event's number
    kind         TEXT    NOT NULL,
    delta        INTEGER NOT NULL,
    stock_before INTEGER NOT NULL,
    stock_after  INTEGER NOT NULL,
    sale_id      BLOB,                        -- for sales
    reference    TEXT,                        -- for anything else
    at           INTEGER NOT NULL,
    created_by   TEXT    NOT NULL,
    CHECK (stock_before + delta = stock_after),
    FOREIGN KEY (tenant_id, unit_id) REFERENCES units (tenant_id, id),
    FOREIGN KEY (tenant_id, location_id) REFERENCES locations (tenant_id, id)
) STRICT;

-- The projection: where each chain of the ledger ends.
CREATE TABLE stock (
    tenant_id   BLOB    NOT NULL,
    unit_id     BLOB    NOT NULL,
    location_id BLOB    NOT NULL,
    quantity    INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, unit_id, location_id)
) STRICT, WITHOUT ROWID;

-- How far each tenant's events are applied: what makes a second delivery harmless.
CREATE TABLE applied (
    tenant_id BLOB    NOT NULL PRIMARY KEY,
    sequence  INTEGER NOT NULL,
    last_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Numbers below that which were given up (dead letters) or never arrived.
CREATE TABLE holes (
    tenant_id BLOB    NOT NULL,
    sequence  INTEGER NOT NULL,
    cause     TEXT    NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER sales_no_update BEFORE UPDATE ON sales BEGIN SELECT RAISE(ABORT, 'sales are append-only'); END;
CREATE TRIGGER sales_no_delete BEFORE DELETE ON sales BEGIN SELECT RAISE(ABORT, 'sales are append-only'); END;
CREATE TRIGGER sale_lines_no_update BEFORE UPDATE ON sale_lines BEGIN SELECT RAISE(ABORT, 'sales are append-only'); END;
CREATE TRIGGER sale_lines_no_delete BEFORE DELETE ON sale_lines BEGIN SELECT RAISE(ABORT, 'sales are append-only'); END;
