-- Connections to marketplaces, webhooks that go out, and who looks after each: the twin of migrations/channels.
CREATE TABLE connections (
    tenant_id   uuid    NOT NULL,
    id          uuid    NOT NULL,
    kind        text    NOT NULL CHECK (kind IN ('shopify', 'meli')),
    name        text    NOT NULL,
    account     text    NOT NULL,
    place       text    NOT NULL,             -- '' where the marketplace has none
    sources     text    NOT NULL,             -- locations as JSON; empty: all
    policy      text    NOT NULL,             -- JSON
    paused      boolean NOT NULL,
    key_id      text    NOT NULL,             -- the key that sealed the credentials
    credentials bytea   NOT NULL,             -- nonce and ciphertext
    created_at  bigint  NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (kind, account, place)             -- whoever connects it first has it, whichever tenant that is
);
-- A seller's refresh token is good for one user of it, whatever the warehouse.
CREATE UNIQUE INDEX connections_of_sellers ON connections (account) WHERE kind = 'meli';

CREATE TABLE mappings (
    tenant_id     uuid   NOT NULL,
    connection_id uuid   NOT NULL,
    unit_id       uuid   NOT NULL,
    item          text   NOT NULL,
    shown         bigint,                     -- what it was last confirmed to show
    shown_at      bigint,
    PRIMARY KEY (tenant_id, connection_id, unit_id),
    UNIQUE (tenant_id, connection_id, item),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 80);

-- Pushes that were given up, one for each unit: a newer quantity makes an older failure meaningless.
CREATE TABLE failures (
    tenant_id     uuid   NOT NULL,
    connection_id uuid   NOT NULL,
    unit_id       uuid   NOT NULL,
    code          text   NOT NULL,
    cause         text   NOT NULL,
    request       text   NOT NULL,
    response      text   NOT NULL,
    attempts      bigint NOT NULL,
    at            bigint NOT NULL,
    PRIMARY KEY (tenant_id, connection_id, unit_id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
);

-- News as it came. What is done keeps its id, so that a second delivery is known, and loses its body.
CREATE TABLE notices (
    tenant_id     uuid   NOT NULL,
    connection_id uuid   NOT NULL,
    id            text   NOT NULL,
    topic         text   NOT NULL,
    body          bytea,
    at            bigint NOT NULL,
    PRIMARY KEY (tenant_id, connection_id, id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX notices_waiting ON notices (tenant_id, connection_id, at) WHERE body IS NOT NULL;

-- What became of the orders there.
CREATE TABLE orders (
    tenant_id     uuid   NOT NULL,
    connection_id uuid   NOT NULL,
    id            text   NOT NULL,
    name          text   NOT NULL,
    sale_id       uuid,
    state         text   NOT NULL,
    remark        text   NOT NULL,
    at            bigint NOT NULL,
    version       bigint NOT NULL,            -- how old the newest word about it is
    PRIMARY KEY (tenant_id, connection_id, id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX orders_newest ON orders (tenant_id, connection_id, at);

-- News that was given up, as it came.
CREATE TABLE given_up (
    tenant_id     uuid   NOT NULL,
    connection_id uuid   NOT NULL,
    id            text   NOT NULL,            -- the notice's
    topic         text   NOT NULL,
    body          bytea  NOT NULL,
    order_id      text   NOT NULL,            -- '' when it is not known which
    code          text   NOT NULL,
    cause         text   NOT NULL,
    response      text   NOT NULL,
    at            bigint NOT NULL,
    PRIMARY KEY (tenant_id, connection_id, id),
    FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX given_up_orders ON given_up (tenant_id, connection_id, order_id);

-- Webhooks that go out, and what they were told.
CREATE TABLE hooks (
    tenant_id     uuid   NOT NULL,            -- zeros: whoever runs the installation
    id            uuid   NOT NULL UNIQUE,
    url           text   NOT NULL,
    news          text   NOT NULL,            -- what it wants to hear, as JSON
    paused        text,                       -- why nothing is sent
    failing_since bigint,
    lost          bigint NOT NULL,            -- messages that were not kept because too many waited
    key_id        text   NOT NULL,            -- the key that sealed the secret
    secret        bytea  NOT NULL,            -- nonce and ciphertext
    created_at    bigint NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- One row for each message and receiver; the position is the order in which they go out. Whoever writes one holds its
-- receiver's row, so that positions become visible in their order.
CREATE SEQUENCE hook_position;
CREATE TABLE hook_messages (
    position  bigint NOT NULL DEFAULT nextval('hook_position'),
    tenant_id uuid   NOT NULL,
    hook_id   uuid   NOT NULL,
    id        text   NOT NULL,
    news      text   NOT NULL,
    body      bytea  NOT NULL,
    at        bigint NOT NULL,
    state     text   NOT NULL CHECK (state IN ('pendiente', 'entregada', 'descartada')),
    attempts  bigint NOT NULL,
    due_at    bigint NOT NULL,
    status    bigint,                         -- of the last answer
    response  text   NOT NULL,
    tried_at  bigint,
    PRIMARY KEY (tenant_id, hook_id, position),
    UNIQUE (tenant_id, hook_id, id),
    FOREIGN KEY (tenant_id, hook_id) REFERENCES hooks (tenant_id, id) ON DELETE CASCADE
);
ALTER SEQUENCE hook_position OWNED BY hook_messages.position;
CREATE INDEX hook_messages_waiting ON hook_messages (tenant_id, hook_id, position) WHERE state = 'pendiente';
CREATE INDEX hook_messages_given_up ON hook_messages (tried_at) WHERE state = 'descartada';

-- Alarms that were raised and not cleared yet. Under zeros: the installation's own.
CREATE TABLE alarms (
    tenant_id uuid NOT NULL,
    name      text NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

-- Which process looks after a connection or a webhook. It says so again and again; whoever has waited until it is over
-- may take it, under the next generation, and from then on nothing that an earlier holder writes is taken. Moments are
-- those of this server's clock, so that no two clocks have to agree.
CREATE TABLE leases (
    tenant_id  uuid   NOT NULL,
    id         uuid   NOT NULL,               -- the connection's or the webhook's
    holder     uuid   NOT NULL,
    generation bigint NOT NULL,
    until      bigint NOT NULL,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 50);

CREATE FUNCTION micros_now() RETURNS bigint LANGUAGE sql VOLATILE
    AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

-- Goes on with many leases in one round trip, each in the name of its tenant; says which are still the holder's.
CREATE FUNCTION hold_leases(who uuid, whose uuid[], what uuid[], ours bigint[], lasting bigint) RETURNS SETOF uuid
LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1 .. coalesce(array_length(what, 1), 0) LOOP
        PERFORM set_config('blend.tenant', whose[n]::text, true);
        RETURN QUERY UPDATE leases l SET until = greatest(l.until, micros_now() + lasting)
            WHERE l.tenant_id = whose[n] AND l.id = what[n] AND l.holder = who AND l.generation = ours[n]
            RETURNING l.id;
    END LOOP;
END $$;

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['connections', 'mappings', 'failures', 'notices', 'orders', 'given_up', 'hooks',
        'hook_messages', 'alarms', 'leases']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_tenant ON %I
            USING (tenant_id = nullif(current_setting(''blend.tenant'', true), '''')::uuid)', t);
        EXECUTE format('CREATE POLICY owner_across ON %I FOR SELECT TO CURRENT_USER
            USING (current_setting(''blend.across'', true) = ''on'')', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO blend_app', t);
    END LOOP;
END $$;
GRANT USAGE ON SEQUENCE hook_position TO blend_app;

-- What is read across tenants: what there is to look after, and what was given up, for whoever runs the installation.
-- Credentials are sealed.
DO $$
DECLARE
    s text := quote_ident(current_schema());
    head text := 'LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$ BEGIN
        PERFORM set_config(''blend.across'', ''on'', true); RETURN QUERY ';
    foot text := '; PERFORM set_config(''blend.across'', '''', true); END $f$';
BEGIN
    EXECUTE format('CREATE FUNCTION all_connections() RETURNS SETOF %1$s.connections ' || head
        || 'SELECT * FROM %1$s.connections' || foot, s);
    EXECUTE format('CREATE FUNCTION connections_with_news() RETURNS SETOF uuid ' || head
        || 'SELECT DISTINCT connection_id FROM %s.notices WHERE body IS NOT NULL' || foot, s);
    EXECUTE format('CREATE FUNCTION all_hooks() RETURNS SETOF %1$s.hooks ' || head
        || 'SELECT * FROM %1$s.hooks' || foot, s);
    EXECUTE format('CREATE FUNCTION all_failures(most bigint) RETURNS SETOF %1$s.failures ' || head
        || 'SELECT * FROM %1$s.failures ORDER BY at, connection_id LIMIT most' || foot, s);
    EXECUTE format('CREATE FUNCTION all_given_up(most bigint) RETURNS SETOF %1$s.given_up ' || head
        || 'SELECT * FROM %1$s.given_up ORDER BY at, connection_id LIMIT most' || foot, s);
    EXECUTE format('CREATE FUNCTION all_refused_messages(most bigint) RETURNS SETOF %1$s.hook_messages ' || head
        || 'SELECT * FROM %1$s.hook_messages WHERE state = ''descartada'' ORDER BY tried_at, position LIMIT most'
        || foot, s);
    EXECUTE format('CREATE FUNCTION count_channel_letters() RETURNS SETOF bigint ' || head
        || 'SELECT (SELECT count(*) FROM %1$s.failures) + (SELECT count(*) FROM %1$s.given_up)' || foot, s);
    EXECUTE format('CREATE FUNCTION count_hook_letters() RETURNS SETOF bigint ' || head
        || 'SELECT count(*) FROM %1$s.hook_messages WHERE state = ''descartada''' || foot, s);
END $$;

DO $$
DECLARE
    f text;
BEGIN
    FOREACH f IN ARRAY ARRAY['all_connections()', 'connections_with_news()', 'all_hooks()', 'all_failures(bigint)',
        'all_given_up(bigint)', 'all_refused_messages(bigint)', 'count_channel_letters()', 'count_hook_letters()',
        'hold_leases(uuid, uuid[], uuid[], bigint[], bigint)']
    LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION ' || f || ' FROM PUBLIC';
        EXECUTE 'GRANT EXECUTE ON FUNCTION ' || f || ' TO blend_app';
    END LOOP;
END $$;
