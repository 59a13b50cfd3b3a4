-- What is known of each shop's old ERP: balances as last read and how much of them is stock here, codes, branches, how
-- far it has been read. Written in the transaction of the event that says so, so that it never differs from the ledger.
CREATE TABLE erp_state (
    tenant_id uuid NOT NULL,
    source    text NOT NULL,                  -- the ERP's name in the settings, or the agent's
    key       text NOT NULL,                  -- what the fact is about
    value     text NOT NULL,                  -- the fact, as JSON
    PRIMARY KEY (tenant_id, source, key)
);

ALTER TABLE erp_state ENABLE ROW LEVEL SECURITY;
ALTER TABLE erp_state FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON erp_state USING (tenant_id = nullif(current_setting('blend.tenant', true), '')::uuid);
CREATE POLICY owner_across ON erp_state FOR SELECT TO CURRENT_USER
    USING (current_setting('blend.across', true) = 'on');
GRANT SELECT, INSERT, UPDATE ON erp_state TO blend_app;
