-- Names that stand for models, per tenant. The nil UUID is the platform's own, for all tenants.
CALL weir.add_outbox('routing');

-- One row a tenant. Whoever changes its aliases changes this first, so that changes come one after the other.
CREATE TABLE routing.alias_sets (
    tenant_id uuid PRIMARY KEY,
    version   bigint NOT NULL
);
CALL weir.protect('routing.alias_sets', 'select, insert, update');

CREATE TABLE routing.aliases (
    tenant_id     uuid NOT NULL REFERENCES routing.alias_sets,
    name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 256),
    model         text NOT NULL CHECK (char_length(model) BETWEEN 1 AND 256),
    -- Null: any.
    provider      text CHECK (char_length(provider) BETWEEN 1 AND 256),
    updated_at_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, name)
);
CALL weir.protect('routing.aliases');

-- Every tenant's aliases for routers that start, by tenant: `after` is the last tenant of the page before, which has
-- at most so many tenants. A tenant that has none left has one row without a name.
CREATE FUNCTION routing.alias_sets_page(after uuid, tenants integer)
RETURNS TABLE (tenant_id uuid, version bigint, name text, model text, provider text, updated_at_ms bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM weir.require('service');
    RETURN QUERY
        SELECT s.tenant_id, s.version, a.name, a.model, a.provider, a.updated_at_ms
        FROM (
            SELECT t.tenant_id, t.version FROM routing.alias_sets t
            WHERE after IS NULL OR t.tenant_id > after
            ORDER BY t.tenant_id LIMIT tenants
        ) s
        LEFT JOIN routing.aliases a ON a.tenant_id = s.tenant_id
        ORDER BY s.tenant_id, a.name;
END $$;
CALL weir.expose('routing.alias_sets_page(uuid, integer)');
