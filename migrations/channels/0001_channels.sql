-- Connections to marketplaces and what was confirmed there.
-- Kept apart from the ledger: its writer never waits for a marketplace's bookkeeping, nor the other way round.

CREATE TABLE connections (
    tenant_id   BLOB    NOT NULL,
    id          BLOB    NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('shopify', 'meli')),
    name        TEXT    NOT NULL,
    account     TEXT    NOT NULL,
    place       TEXT    NOT NULL,             -- '' where the marketplace has none
    sources     TEXT    NOT NULL,             -- locations as JSON; empty: all
    policy      TEXT    NOT NULL,             -- JSON
    paused      INTEGER NOT NULL,
    key_id      TEXT    NOT NULL,             -- the key that sealed the credentials
    credentials BLOB    NOT NULL,             -- nonce and ciphertext
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (kind, account, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE mappings (
    tenant_id     BLOB    NOT NULL,
    connection_id BLOB    NOT NULL,
    unit_id       BLOB    NOT NULL,
    item          TEXT    NOT NULL,
    shown         INTEGER,                    -- what it was last confirmed to show
    shown_at      INTEGER,
    PRIMARY KEY (tenant_id, connection_id, unit_id),
    UNIQUE (tenant_id, connection_id, item),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Pushes that were given up, one for each unit: a newer quantity makes an older failure meaningless.
CREATE TABLE failures (
    tenant_id     BLOB    NOT NULL,
    connection_id BLOB    NOT NULL,
    unit_id       BLOB    NOT NULL,
    code          TEXT    NOT NULL,
    cause         TEXT    NOT NULL,
    request       TEXT    NOT NULL,
    response      TEXT    NOT NULL,
    attempts      INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, connection_id, unit_id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- News as it came. What is done keeps its id, so that a second delivery is known, and loses its body.
CREATE TABLE notices (
    tenant_id     BLOB    NOT NULL,
    connection_id BLOB    NOT NULL,
    id            TEXT    NOT NULL,
    topic         TEXT    NOT NULL,
    body          BLOB,
    at            INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, connection_id, id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_waiting ON notices (tenant_id, connection_id, at) WHERE body IS NOT NULL;

-- What became of the orders there.
CREATE TABLE orders (
    tenant_id     BLOB    NOT NULL,
    connection_id BLOB    NOT NULL,
    id            TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    sale_id       BLOB,
    state         TEXT    NOT NULL,
    remark        TEXT    NOT NULL,
    at            INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, connection_id, id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX orders_newest ON orders (tenant_id, connection_id, at);
