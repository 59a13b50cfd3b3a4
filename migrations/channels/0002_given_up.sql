-- News that was given up, as it came: it could not be read, or the order in it could not be sold. Its notice stays done
-- until somebody wants it tried again; whatever else becomes of the order makes it meaningless.
CREATE TABLE given_up (
    tenant_id     BLOB    NOT NULL,
    connection_id BLOB    NOT NULL,
    id            TEXT    NOT NULL,           -- the notice's
    topic         TEXT    NOT NULL,
    body          BLOB    NOT NULL,
    order_id      TEXT    NOT NULL,           -- '' when it is not known which
    code          TEXT    NOT NULL,
    cause         TEXT    NOT NULL,
    response      TEXT    NOT NULL,
    at            INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, connection_id, id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX given_up_orders ON given_up (tenant_id, connection_id, order_id);
