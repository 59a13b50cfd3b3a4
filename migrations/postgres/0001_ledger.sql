-- Tenants, catalogue, sales and the append-only inventory ledger: the twin of migrations/sqlite/0001_ledger.sql.
-- Money is in centavos, quantities in thousandths, moments in microseconds since 1970.
-- Every key begins with the tenant, and every reference carries it: one tenant's row cannot point at another's.
-- Whoever runs this owns the tables; Blend works as the role blend_app, which sees one tenant at a time.

-- Roles belong to all databases of a server, so another database's migration may be creating it right now.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'blend_app') THEN
        CREATE ROLE blend_app NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'blend_app' AND (rolsuper OR rolbypassrls)) THEN
        RAISE EXCEPTION 'the role blend_app is above row-level security: ALTER ROLE blend_app NOSUPERUSER NOBYPASSRLS';
    END IF;
    -- From version 16 on, who creates a role administers it but cannot become it until granted.
    IF NOT pg_has_role(current_user, 'blend_app',
            CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
        GRANT blend_app TO CURRENT_USER;
    END IF;
EXCEPTION WHEN unique_violation THEN
    NULL; -- granted by another database's migration in this moment
END $$;

CREATE TABLE tenants (
    id         uuid    NOT NULL PRIMARY KEY,
    name       text    NOT NULL,
    trade      text    NOT NULL,
    active     boolean NOT NULL,
    created_at bigint  NOT NULL
);

-- Uniqueness is checked when a statement is done: one statement writes all rows of a batch, and two of them may
-- exchange their codes.
CREATE TABLE locations (
    tenant_id  uuid    NOT NULL REFERENCES tenants (id),
    id         uuid    NOT NULL,
    code       text    NOT NULL,
    name       text    NOT NULL,
    kind       text    NOT NULL CHECK (kind IN ('STORE', 'WAREHOUSE')),
    is_default boolean NOT NULL,
    active     boolean NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code) DEFERRABLE
);
CREATE UNIQUE INDEX locations_one_default ON locations (tenant_id) WHERE is_default;

CREATE TABLE units (
    tenant_id  uuid    NOT NULL REFERENCES tenants (id),
    id         uuid    NOT NULL,
    product_id uuid    NOT NULL,
    base_sku   text    NOT NULL,
    name       text    NOT NULL,
    sku        text    NOT NULL,
    barcode    text,
    kind       text    NOT NULL,
    price      bigint  NOT NULL CHECK (price >= 0),
    active     boolean NOT NULL,
    size       text,
    color      text,
    category   text,
    brand      text,
    attributes jsonb   NOT NULL DEFAULT '{}', -- what a trade knows of its products and no column holds
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, sku) DEFERRABLE
);
CREATE INDEX units_attributes ON units USING gin (attributes jsonb_path_ops);

CREATE TABLE sales (
    tenant_id   uuid   NOT NULL,
    id          uuid   NOT NULL,
    location_id uuid   NOT NULL,
    sequence    bigint NOT NULL,              -- the event's number
    at          bigint NOT NULL,
    total       bigint NOT NULL,
    payment     text   NOT NULL,
    created_by  text   NOT NULL,
    request_id  text   NOT NULL,
    key_hash    bigint,                       -- indexed half of the idempotency key's hash
    key         text,
    fingerprint bytea,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, location_id) REFERENCES locations (tenant_id, id)
);
CREATE INDEX sales_key ON sales (key_hash) WHERE key_hash IS NOT NULL;
CREATE INDEX sales_location ON sales (tenant_id, location_id);

CREATE TABLE sale_lines (
    tenant_id  uuid    NOT NULL,
    sale_id    uuid    NOT NULL,
    line       bigint  NOT NULL,
    unit_id    uuid    NOT NULL,
    name       text    NOT NULL,              -- name, SKU and price as sold
    sku        text    NOT NULL,
    quantity   bigint  NOT NULL CHECK (quantity > 0),
    unit_price bigint  NOT NULL,
    subtotal   bigint  NOT NULL,
    has_stock  boolean NOT NULL,
    PRIMARY KEY (tenant_id, sale_id, line)
);

-- Ready to be partitioned: its one unique key includes tenant_id, its references go out and none comes in, and its
-- triggers are per row, which partitions inherit. So a later step can make it PARTITION BY HASH (tenant_id) without
-- changing a statement, by renaming it, creating the partitioned one and attaching or copying.
CREATE SEQUENCE ledger_id;
CREATE TABLE ledger (
    id           bigint NOT NULL DEFAULT nextval('ledger_id'), -- order of writing, within a tenant
    tenant_id    uuid   NOT NULL,
    unit_id      uuid   NOT NULL,
    location_id  uuid   NOT NULL,
    sequence     bigint NOT NULL,             -- the event's number
    kind         text   NOT NULL,
    delta        bigint NOT NULL,
    stock_before bigint NOT NULL,
    stock_after  bigint NOT NULL,
    sale_id      uuid,                        -- for sales
    reference    text,                        -- for anything else
    at           bigint NOT NULL,
    created_by   text   NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK (stock_before + delta = stock_after),
    FOREIGN KEY (tenant_id, unit_id) REFERENCES units (tenant_id, id),
    FOREIGN KEY (tenant_id, location_id) REFERENCES locations (tenant_id, id)
);
ALTER SEQUENCE ledger_id OWNED BY ledger.id;
CREATE INDEX ledger_place ON ledger (tenant_id, unit_id, location_id, id);
CREATE INDEX ledger_location ON ledger (tenant_id, location_id);

-- The projection: where each chain of the ledger ends. Room in its pages lets an update stay where the row was.
CREATE TABLE stock (
    tenant_id   uuid   NOT NULL,
    unit_id     uuid   NOT NULL,
    location_id uuid   NOT NULL,
    quantity    bigint NOT NULL,
    PRIMARY KEY (tenant_id, unit_id, location_id)
) WITH (fillfactor = 80);

-- How far each tenant's events are applied: what makes a second delivery harmless. Its row is also the tenant's lock.
CREATE TABLE applied (
    tenant_id uuid   NOT NULL PRIMARY KEY,
    sequence  bigint NOT NULL,
    last_at   bigint NOT NULL
) WITH (fillfactor = 50);

-- Numbers below that which were given up (dead letters) or never arrived.
CREATE TABLE holes (
    tenant_id uuid   NOT NULL,
    sequence  bigint NOT NULL,
    cause     text   NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER ledger_no_change BEFORE UPDATE OR DELETE ON ledger FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_no_truncate BEFORE TRUNCATE ON ledger EXECUTE FUNCTION refuse_change();
CREATE TRIGGER sales_no_change BEFORE UPDATE OR DELETE ON sales FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER sales_no_truncate BEFORE TRUNCATE ON sales EXECUTE FUNCTION refuse_change();
CREATE TRIGGER sale_lines_no_change BEFORE UPDATE OR DELETE ON sale_lines FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER sale_lines_no_truncate BEFORE TRUNCATE ON sale_lines EXECUTE FUNCTION refuse_change();

-- Whoever names no tenant sees nothing and writes nothing; forced, so that this holds for the owner too. A setting
-- that was made for one transaction reads as '' afterwards.
--
-- The owner may look across tenants when it says so. The role blend_app may not, whatever it says, but for the
-- functions below, which run as the owner.
DO $$
DECLARE
    t text;
    tenant text;
BEGIN
    FOREACH t IN ARRAY ARRAY['tenants', 'locations', 'units', 'sales', 'sale_lines', 'ledger', 'stock', 'applied', 'holes']
    LOOP
        tenant := CASE t WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_tenant ON %I USING (%I = nullif(current_setting(''blend.tenant'', true), '''')::uuid)',
            t, tenant);
        EXECUTE format('CREATE POLICY owner_across ON %I FOR SELECT TO CURRENT_USER
            USING (current_setting(''blend.across'', true) = ''on'')', t);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO blend_app', current_schema());
END $$;

GRANT SELECT ON _sqlx_migrations TO blend_app;
GRANT SELECT, INSERT, UPDATE ON tenants, locations, units, stock, applied TO blend_app;
GRANT SELECT, INSERT, DELETE ON holes TO blend_app;
GRANT SELECT, INSERT ON sales, sale_lines, ledger TO blend_app;
GRANT USAGE ON SEQUENCE ledger_id TO blend_app;

-- What is read across tenants: which tenants there are, and which keys may have been used (half of a hash of each,
-- which says neither the key nor whose it is). Tables are named in full and the search path has nothing that another
-- role can write to. (A function may not come with SET blend.across: that takes a superuser.)
DO $$
DECLARE
    s text := quote_ident(current_schema());
    head text := 'LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$ BEGIN
        PERFORM set_config(''blend.across'', ''on'', true); RETURN QUERY ';
    foot text := '; PERFORM set_config(''blend.across'', '''', true); END $f$';
BEGIN
    EXECUTE format('CREATE FUNCTION all_tenants() RETURNS SETOF uuid ' || head
        || 'SELECT id FROM %s.tenants ORDER BY id' || foot, s);
    EXECUTE format('CREATE FUNCTION page_of_key_hashes(least_hash bigint, most bigint) RETURNS SETOF bigint ' || head
        || 'SELECT key_hash FROM %s.sales WHERE key_hash >= least_hash ORDER BY key_hash LIMIT most' || foot, s);
    -- For the checker of the laws: a row whose tenant does not exist must not escape it.
    EXECUTE format('CREATE FUNCTION tenants_with_rows() RETURNS SETOF uuid ' || head
        || 'SELECT id FROM %1$s.tenants UNION SELECT tenant_id FROM %1$s.locations UNION SELECT tenant_id FROM %1$s.units
            UNION SELECT tenant_id FROM %1$s.sales UNION SELECT tenant_id FROM %1$s.sale_lines
            UNION SELECT tenant_id FROM %1$s.ledger UNION SELECT tenant_id FROM %1$s.stock
            UNION SELECT tenant_id FROM %1$s.applied UNION SELECT tenant_id FROM %1$s.holes ORDER BY 1' || foot, s);
END $$;
REVOKE ALL ON FUNCTION all_tenants(), page_of_key_hashes(bigint, bigint), tenants_with_rows() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION all_tenants(), page_of_key_hashes(bigint, bigint), tenants_with_rows() TO blend_app;
