-- Hourly figures can be built again from events: rows that are wrong go, and come back right.
CALL weir.share('analytics.kpi_hourly', 'select, insert, update, delete');
CALL weir.share('analytics.latency_hourly', 'select, insert, update, delete');

-- Whose rows an hour has: nobody's events may remain for rows that should not be there.
CREATE FUNCTION analytics.tenants_in_hour(at timestamptz) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT tenant_id FROM analytics.kpi_hourly WHERE hour = at
    UNION
    SELECT tenant_id FROM analytics.latency_hourly WHERE hour = at
$$;
CALL weir.expose('analytics.tenants_in_hour(timestamptz)');

-- When the oldest event that is remembered was counted; null: none was.
CREATE FUNCTION analytics.counted_since() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT min(received_at) FROM analytics.inbox
$$;
CALL weir.expose('analytics.counted_since()');
