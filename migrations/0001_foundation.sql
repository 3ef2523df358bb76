-- Schemas, and the few procedures through which every later migration declares its tables.
--
-- Row-level security is forced on every tenant table. A service's role owns nothing and gets exactly the
-- privileges that migrations declare here: `weir.grants` holds them, `weir.grant_to` applies them to a role.

CREATE SCHEMA IF NOT EXISTS weir;
CREATE SCHEMA control;
CREATE SCHEMA routing;
CREATE SCHEMA chat;
CREATE SCHEMA flow;
CREATE SCHEMA knowledge;
CREATE SCHEMA analytics;
CREATE SCHEMA billing;

-- What a service's role may do with what.
CREATE TABLE weir.grants (
    kind       text NOT NULL CHECK (kind IN ('table', 'function')),
    -- Qualified; a function with its argument types.
    object     text NOT NULL,
    privileges text NOT NULL,
    PRIMARY KEY (kind, object)
);

-- Declares a table of tenants' rows: nobody, not even its owner, sees or writes rows of a tenant other than the
-- transaction's `app.tenant_id`. Unset, or empty as a pooled session leaves it, means no rows.
CREATE PROCEDURE weir.protect(relation regclass, privileges text DEFAULT 'select, insert, update, delete')
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
    EXECUTE format(
        'CREATE POLICY tenant_isolation ON %s'
        ' USING (tenant_id = nullif(current_setting(''app.tenant_id'', true), '''')::uuid)'
        ' WITH CHECK (tenant_id = nullif(current_setting(''app.tenant_id'', true), '''')::uuid)', relation);
    CALL weir.share(relation, privileges);
END $$;

-- Declares what services may do with a table. By itself only for tables that belong to no tenant; a test keeps
-- the list of those, with reasons.
CREATE PROCEDURE weir.share(relation regclass, privileges text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('REVOKE ALL ON TABLE %s FROM PUBLIC', relation);
    INSERT INTO weir.grants VALUES ('table', relation::text, privileges)
        ON CONFLICT (kind, object) DO UPDATE SET privileges = EXCLUDED.privileges;
END $$;

-- Lets services call a function, and nobody else. One that runs with its owner's rights must fix its search path.
CREATE PROCEDURE weir.expose(routine regprocedure)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_proc
        WHERE oid = routine AND prosecdef AND NOT ('search_path=pg_catalog, pg_temp' = ANY (coalesce(proconfig, '{}')))
    ) THEN
        RAISE EXCEPTION '% is SECURITY DEFINER without SET search_path = pg_catalog, pg_temp', routine;
    END IF;
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', routine);
    INSERT INTO weir.grants VALUES ('function', routine::text, 'execute') ON CONFLICT DO NOTHING;
END $$;

-- Gives `role` what `weir.grants` says, and takes what it no longer says.
CREATE PROCEDURE weir.grant_to(role name)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    area  name;
    entry record;
BEGIN
    FOREACH area IN ARRAY ARRAY['weir', 'control', 'routing', 'chat', 'flow', 'knowledge', 'analytics', 'billing']
    LOOP
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', area, role);
        EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM %I', area, role);
        EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA %I FROM %I', area, role);
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', area, role);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', area, role);
    END LOOP;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    FOR entry IN SELECT * FROM weir.grants ORDER BY kind, object LOOP
        EXECUTE format('GRANT %s ON %s %s TO %I', entry.privileges, entry.kind, entry.object, role);
    END LOOP;
END $$;

REVOKE ALL ON PROCEDURE weir.protect, weir.share, weir.expose, weir.grant_to FROM PUBLIC;

-- Services check at start that no migration is pending.
CALL weir.share('weir.migrations', 'select');
