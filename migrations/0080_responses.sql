-- Responses of OpenAI's Responses API that are kept, and the events of those that run in the background.

CREATE TABLE chat.responses (
    tenant_id   uuid NOT NULL,
    id          text NOT NULL CHECK (char_length(id) BETWEEN 1 AND 128),
    -- The turn before. No reference: it may be gone.
    previous_id text CHECK (char_length(previous_id) BETWEEN 1 AND 128),
    status      text NOT NULL
        CHECK (status IN ('queued', 'in_progress', 'completed', 'incomplete', 'failed', 'cancelled')),
    background  boolean NOT NULL,
    -- JSON: this turn's items, as the client wrote them.
    input       bytea NOT NULL,
    -- JSON: the items of the answer, with what a client sees only when it asks for it.
    output      bytea NOT NULL,
    -- JSON: the object that clients get, but for its output.
    object      bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    -- What follows is of those that run in the background.
    -- Who runs it, until when unless that is renewed. `run` grows whenever somebody takes it: what an earlier owner still
    -- writes is refused.
    owner       uuid,
    lease_until timestamptz,
    run         integer NOT NULL DEFAULT 0,
    -- The request and its caller, for running it again; nothing once it has ended.
    job         bytea,
    -- The last event's sequence number, and bytes of all events.
    sequence    bigint NOT NULL DEFAULT -1,
    event_bytes bigint NOT NULL DEFAULT 0,
    -- An event with output is there: it can't be run again.
    started     boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, id)
);
CALL weir.protect('chat.responses');

-- Whether a turn goes on from this one.
CREATE INDEX responses_previous ON chat.responses (tenant_id, previous_id) WHERE previous_id IS NOT NULL;
-- A tenant's runs.
CREATE INDEX responses_active ON chat.responses (tenant_id) WHERE status IN ('queued', 'in_progress');
-- Of all tenants: leases that have run out, an owner's leases, what is to be forgotten.
CREATE INDEX responses_lease ON chat.responses (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX responses_owner ON chat.responses (owner) WHERE owner IS NOT NULL;
CREATE INDEX responses_expiry ON chat.responses (expires_at);

-- Events in the batches in which they were written: whole server-sent events, their numbers without gaps.
CREATE TABLE chat.response_events (
    tenant_id      uuid NOT NULL,
    response_id    text NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence  bigint NOT NULL CHECK (last_sequence >= first_sequence),
    events         bytea NOT NULL,
    PRIMARY KEY (tenant_id, response_id, first_sequence),
    FOREIGN KEY (tenant_id, response_id) REFERENCES chat.responses (tenant_id, id) ON DELETE CASCADE
);
CALL weir.protect('chat.response_events', 'select, insert, delete');

-- Renews all leases of an owner, and says which runs it still has.
CREATE FUNCTION chat.renew_responses(mine uuid, lease_ms bigint)
RETURNS TABLE (tenant_id uuid, id text, run integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM weir.require('service');
    RETURN QUERY
        UPDATE chat.responses r SET lease_until = now() + lease_ms * interval '1 millisecond'
        WHERE r.owner = mine
        RETURNING r.tenant_id, r.id, r.run;
END $$;
CALL weir.expose('chat.renew_responses(uuid, bigint)');

-- Takes runs whose lease is over: those that have output already, or those that don't.
CREATE FUNCTION chat.take_responses(mine uuid, lease_ms bigint, with_output boolean, max_rows integer)
RETURNS TABLE (tenant_id uuid, id text, run integer, job bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM weir.require('service');
    RETURN QUERY
        WITH free AS (
            SELECT f.tenant_id, f.id FROM chat.responses f
            WHERE f.lease_until < now() AND f.started = with_output
            ORDER BY f.lease_until LIMIT max_rows
            FOR UPDATE SKIP LOCKED
        )
        UPDATE chat.responses r
        SET owner = mine, lease_until = now() + lease_ms * interval '1 millisecond', run = r.run + 1
        FROM free WHERE r.tenant_id = free.tenant_id AND r.id = free.id
        RETURNING r.tenant_id, r.id, r.run, r.job;
END $$;
CALL weir.expose('chat.take_responses(uuid, bigint, boolean, integer)');

-- Forgets what has expired, unless a turn that has not goes on from it: at most so many rows. Says how many.
CREATE FUNCTION chat.prune_responses(max_rows integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    PERFORM weir.require('service');
    WITH old AS (
        SELECT r.tenant_id, r.id FROM chat.responses r
        WHERE r.expires_at < now() AND r.lease_until IS NULL
          AND NOT EXISTS (
              SELECT FROM chat.responses n WHERE n.tenant_id = r.tenant_id AND n.previous_id = r.id)
        LIMIT max_rows
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM chat.responses r USING old WHERE r.tenant_id = old.tenant_id AND r.id = old.id;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
CALL weir.expose('chat.prune_responses(integer)');
