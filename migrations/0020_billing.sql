-- Metering: what was used, by tenant, hour, user, key and model.

-- Events that have had their effect. Written in the transaction of the effect; a redelivered event finds itself here.
CREATE TABLE billing.inbox (
    tenant_id   uuid NOT NULL,
    event_id    uuid NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, event_id)
);
CALL weir.protect('billing.inbox', 'select, insert');
-- Rows arrive in the order of their time, so a few pages of this find the oldest.
CREATE INDEX inbox_received ON billing.inbox USING brin (received_at);

CREATE TABLE billing.usage_counters (
    tenant_id                  uuid NOT NULL,
    -- The hour in which a request finished or an attempt closed.
    hour                       timestamptz NOT NULL,
    -- The nil UUID: the key acted for itself.
    user_id                    uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    key_id                     uuid NOT NULL,
    -- As the provider names it.
    model                      text NOT NULL CHECK (char_length(model) <= 512),
    -- The charge: requests, and the tokens their callers got.
    requests                   bigint NOT NULL DEFAULT 0,
    -- Failed, cut or interrupted; a caller that went away is none.
    errors                     bigint NOT NULL DEFAULT 0,
    input_tokens               bigint NOT NULL DEFAULT 0,
    output_tokens              bigint NOT NULL DEFAULT 0,
    cache_read_tokens          bigint NOT NULL DEFAULT 0,
    reasoning_tokens           bigint NOT NULL DEFAULT 0,
    -- The cost: every call to a provider.
    attempts                   bigint NOT NULL DEFAULT 0,
    attempts_failed            bigint NOT NULL DEFAULT 0,
    attempts_cut               bigint NOT NULL DEFAULT 0,
    attempts_cancelled         bigint NOT NULL DEFAULT 0,
    attempts_interrupted       bigint NOT NULL DEFAULT 0,
    provider_input_tokens      bigint NOT NULL DEFAULT 0,
    provider_output_tokens     bigint NOT NULL DEFAULT 0,
    provider_cache_read_tokens bigint NOT NULL DEFAULT 0,
    provider_reasoning_tokens  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, hour, user_id, key_id, model)
);
CALL weir.protect('billing.usage_counters', 'select, insert, update');
CREATE INDEX usage_counters_user ON billing.usage_counters (tenant_id, user_id, hour);
CREATE INDEX usage_counters_key ON billing.usage_counters (tenant_id, key_id, hour);

-- Forgets inbox rows older than `keep_days`, at most `max_rows` of them; says how many.
CREATE FUNCTION billing.prune_inbox(keep_days integer, max_rows integer) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH old AS (
        SELECT tenant_id, event_id FROM billing.inbox
        WHERE received_at < now() - make_interval(days => greatest(keep_days, 31))
        LIMIT max_rows
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM billing.inbox i USING old
        WHERE i.tenant_id = old.tenant_id AND i.event_id = old.event_id
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;
CALL weir.expose('billing.prune_inbox(integer, integer)');
