-- Takes and lets go many leases in one round trip each, every one in the name of its tenant, as hold_leases does: when a
-- node dies, whoever goes on takes all it had.
CREATE FUNCTION claim_leases(who uuid, whose uuid[], what uuid[], lasting bigint)
    RETURNS TABLE (taken uuid, since bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1 .. coalesce(array_length(what, 1), 0) LOOP
        PERFORM set_config('blend.tenant', whose[n]::text, true);
        RETURN QUERY INSERT INTO leases AS l (tenant_id, id, holder, generation, until)
            VALUES (whose[n], what[n], who, 1, micros_now() + lasting)
            ON CONFLICT (tenant_id, id) DO UPDATE SET holder = excluded.holder, generation = l.generation + 1,
                until = excluded.until
            WHERE l.until < micros_now() OR l.holder = excluded.holder
            RETURNING l.id, l.generation;
    END LOOP;
END $$;

CREATE FUNCTION release_leases(who uuid, whose uuid[], what uuid[], ours bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1 .. coalesce(array_length(what, 1), 0) LOOP
        PERFORM set_config('blend.tenant', whose[n]::text, true);
        UPDATE leases l SET until = 0
            WHERE l.tenant_id = whose[n] AND l.id = what[n] AND l.holder = who AND l.generation = ours[n];
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION claim_leases(uuid, uuid[], uuid[], bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION release_leases(uuid, uuid[], uuid[], bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_leases(uuid, uuid[], uuid[], bigint) TO blend_app;
GRANT EXECUTE ON FUNCTION release_leases(uuid, uuid[], uuid[], bigint[]) TO blend_app;
