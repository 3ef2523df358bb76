-- What answers over all tenants answers services only.
CREATE OR REPLACE FUNCTION analytics.tenants_in_hour(at timestamptz) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM weir.require('service');
    RETURN QUERY
        SELECT tenant_id FROM analytics.kpi_hourly WHERE hour = at
        UNION
        SELECT tenant_id FROM analytics.latency_hourly WHERE hour = at;
END $$;

CREATE OR REPLACE FUNCTION analytics.counted_since() RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM weir.require('service');
    RETURN (SELECT min(received_at) FROM analytics.inbox);
END $$;
