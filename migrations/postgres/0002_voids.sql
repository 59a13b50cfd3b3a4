-- Sales that were taken back, each once. Their units came back as rows of kind VOID in the ledger.
CREATE TABLE voids (
    tenant_id  uuid   NOT NULL,
    sale_id    uuid   NOT NULL,
    sequence   bigint NOT NULL,              -- the event's number
    at         bigint NOT NULL,
    reason     text   NOT NULL,
    created_by text   NOT NULL,
    request_id text   NOT NULL,
    PRIMARY KEY (tenant_id, sale_id),
    FOREIGN KEY (tenant_id, sale_id) REFERENCES sales (tenant_id, id)
);

CREATE TRIGGER voids_no_change BEFORE UPDATE OR DELETE ON voids FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER voids_no_truncate BEFORE TRUNCATE ON voids EXECUTE FUNCTION refuse_change();

ALTER TABLE voids ENABLE ROW LEVEL SECURITY;
ALTER TABLE voids FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON voids USING (tenant_id = nullif(current_setting('blend.tenant', true), '')::uuid);
CREATE POLICY owner_across ON voids FOR SELECT TO CURRENT_USER USING (current_setting('blend.across', true) = 'on');
GRANT SELECT, INSERT ON voids TO blend_app;
