-- Webhooks that go out, and what they were told. Here, so that what became of an order is told in the same transaction
-- in which it is known.
CREATE TABLE hooks (
    tenant_id     BLOB    NOT NULL,           -- zeros: whoever runs the installation
    id            BLOB    NOT NULL,
    url           TEXT    NOT NULL,
    news          TEXT    NOT NULL,           -- what it wants to hear, as JSON
    paused        TEXT,                       -- why nothing is sent
    failing_since INTEGER,
    lost          INTEGER NOT NULL,           -- messages that were not kept because too many waited
    key_id        TEXT    NOT NULL,           -- the key that sealed the secret
    secret        BLOB    NOT NULL,           -- nonce and ciphertext
    created_at    INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (id)
) STRICT, WITHOUT ROWID;

-- One row for each message and receiver; the position is the order in which they go out.
CREATE TABLE hook_messages (
    position  INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id BLOB    NOT NULL,
    hook_id   BLOB    NOT NULL,
    id        TEXT    NOT NULL,
    news      TEXT    NOT NULL,
    body      BLOB    NOT NULL,
    at        INTEGER NOT NULL,
    state     TEXT    NOT NULL CHECK (state IN ('pendiente', 'entregada', 'descartada')),
    attempts  INTEGER NOT NULL,
    due_at    INTEGER NOT NULL,
    status    INTEGER,                        -- of the last answer
    response  TEXT    NOT NULL,
    tried_at  INTEGER,
    UNIQUE (hook_id, id),
    FOREIGN KEY (tenant_id, hook_id) REFERENCES hooks (tenant_id, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX hook_messages_of ON hook_messages (tenant_id, hook_id, position);
CREATE INDEX hook_messages_waiting ON hook_messages (hook_id, position) WHERE state = 'pendiente';
CREATE INDEX hook_messages_given_up ON hook_messages (tried_at) WHERE state = 'descartada';

-- Alarms that were raised and not cleared yet.
CREATE TABLE alarms (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
