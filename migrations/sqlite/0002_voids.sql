-- Sales that were taken back, each once. Their units came back as rows of kind VOID in the ledger.
CREATE TABLE voids (
    tenant_id  BLOB    NOT NULL,
    sale_id    BLOB    NOT NULL,
    sequence   INTEGER NOT NULL,              -- the event's number
    at         INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    created_by TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    PRIMARY KEY (tenant_id, sale_id),
    FOREIGN KEY (tenant_id, sale_id) REFERENCES sales (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER voids_no_update BEFORE UPDATE ON voids BEGIN SELECT RAISE(ABORT, 'voids are append-only'); END;
CREATE TRIGGER voids_no_delete BEFORE DELETE ON voids BEGIN SELECT RAISE(ABORT, 'voids are append-only'); END;
