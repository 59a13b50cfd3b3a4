-- What was given up was sold nevertheless, so whoever rebuilds stock needs it. It stands here until it is applied after
-- all; among the dead letters of the bus it is for people to look at.
ALTER TABLE holes ADD COLUMN kind text, ADD COLUMN event text;   -- as on the bus; NULL for what never arrived
GRANT UPDATE ON holes TO blend_app;

DO $$
DECLARE
    s text := quote_ident(current_schema());
BEGIN
    EXECUTE format('CREATE FUNCTION tenants_given_up() RETURNS SETOF uuid LANGUAGE plpgsql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp AS $f$ BEGIN
        PERFORM set_config(''blend.across'', ''on'', true);
        RETURN QUERY SELECT DISTINCT tenant_id FROM %s.holes WHERE event IS NOT NULL ORDER BY 1;
        PERFORM set_config(''blend.across'', '''', true); END $f$', s);
END $$;
REVOKE ALL ON FUNCTION tenants_given_up() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenants_given_up() TO blend_app;
