-- What is known of each shop's old ERP: balances as last read and how much of them is stock here, codes, branches, how
-- far it has been read. Written in the transaction of the event that says so, so that it never differs from the ledger.
CREATE TABLE erp_state (
    tenant_id BLOB NOT NULL,
    source    TEXT NOT NULL,                  -- the ERP's name in the settings, or the agent's
    key       TEXT NOT NULL,                  -- what the fact is about
    value     TEXT NOT NULL,                  -- the fact, as JSON
    PRIMARY KEY (tenant_id, source, key)
) STRICT, WITHOUT ROWID;
