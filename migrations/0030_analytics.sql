-- Hourly figures by model, built from usage events.

-- Events that have had their effect: see billing.inbox.
CREATE TABLE analytics.inbox (
    tenant_id   uuid NOT NULL,
    event_id    uuid NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, event_id)
);
CALL weir.protect('analytics.inbox', 'select, insert');
CREATE INDEX inbox_received ON analytics.inbox USING brin (received_at);

CREATE TABLE analytics.kpi_hourly (
    tenant_id          uuid NOT NULL,
    -- The hour in which the requests finished.
    hour               timestamptz NOT NULL,
    model              text NOT NULL CHECK (char_length(model) <= 512),
    requests           bigint NOT NULL DEFAULT 0,
    errors             bigint NOT NULL DEFAULT 0,
    input_tokens       bigint NOT NULL DEFAULT 0,
    output_tokens      bigint NOT NULL DEFAULT 0,
    -- Microseconds, summed; the counts are in latency_hourly.
    first_token_us_sum bigint NOT NULL DEFAULT 0,
    total_us_sum       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, hour, model)
);
CALL weir.protect('analytics.kpi_hourly', 'select, insert, update');

-- A histogram per metric: bucket n holds a range of microseconds, eight ranges a power of two.
CREATE TABLE analytics.latency_hourly (
    tenant_id uuid NOT NULL,
    hour      timestamptz NOT NULL,
    model     text NOT NULL,
    metric    text NOT NULL CHECK (metric IN ('first_token', 'total')),
    bucket    smallint NOT NULL CHECK (bucket BETWEEN 0 AND 495),
    count     bigint NOT NULL,
    PRIMARY KEY (tenant_id, hour, model, metric, bucket)
);
CALL weir.protect('analytics.latency_hourly', 'select, insert, update');

-- See billing.prune_inbox.
CREATE FUNCTION analytics.prune_inbox(keep_days integer, max_rows integer) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH old AS (
        SELECT tenant_id, event_id FROM analytics.inbox
        WHERE received_at < now() - make_interval(days => greatest(keep_days, 31))
        LIMIT max_rows
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM analytics.inbox i USING old
        WHERE i.tenant_id = old.tenant_id AND i.event_id = old.event_id
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;
CALL weir.expose('analytics.prune_inbox(integer, integer)');
