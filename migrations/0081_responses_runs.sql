-- Runs in the background: what is counted against one, what it is to become, and when its events are forgotten.

ALTER TABLE chat.responses
    -- How often whoever ran it was lost. Leaving it to others is no loss.
    ADD COLUMN crashes    integer NOT NULL DEFAULT 0,
    -- Somebody asked for its end: whoever takes it cancels it.
    ADD COLUMN cancelling boolean NOT NULL DEFAULT false,
    -- When it ended; nothing once its events are forgotten.
    ADD COLUMN ended_at   timestamptz;

-- Of all tenants: events that are to be forgotten.
CREATE INDEX responses_ended ON chat.responses (ended_at) WHERE ended_at IS NOT NULL;

-- Takes runs that are free: those that have output already, or those that don't; all whose lease is over, or only those
-- that were left to others. The function of four arguments is that of processes before this one.
CREATE FUNCTION chat.take_responses(
    mine uuid, lease_ms bigint, with_output boolean, only_left boolean, max_rows integer)
RETURNS TABLE (tenant_id uuid, id text, run integer, job bytea, crashes integer, cancelling boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM weir.require('service');
    RETURN QUERY
        WITH free AS (
            SELECT f.tenant_id, f.id FROM chat.responses f
            WHERE f.lease_until < now() AND f.started = with_output
              AND (NOT only_left OR f.lease_until = '-infinity')
            ORDER BY f.lease_until LIMIT max_rows
            FOR UPDATE SKIP LOCKED
        )
        UPDATE chat.responses r
        SET owner = mine, lease_until = now() + lease_ms * interval '1 millisecond', run = r.run + 1,
            crashes = r.crashes + CASE WHEN r.lease_until = '-infinity' THEN 0 ELSE 1 END
        FROM free WHERE r.tenant_id = free.tenant_id AND r.id = free.id
        RETURNING r.tenant_id, r.id, r.run, r.job, r.crashes, r.cancelling;
END $$;
CALL weir.expose('chat.take_responses(uuid, bigint, boolean, boolean, integer)');

-- Forgets the events of runs that ended so long ago, of at most so many. Says of how many.
CREATE FUNCTION chat.prune_response_events(after_s bigint, max_rows integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    PERFORM weir.require('service');
    WITH old AS (
        SELECT r.tenant_id, r.id FROM chat.responses r
        WHERE r.ended_at < now() - after_s * interval '1 second'
        LIMIT max_rows
        FOR UPDATE SKIP LOCKED
    ), told AS (
        DELETE FROM chat.response_events e USING old WHERE e.tenant_id = old.tenant_id AND e.response_id = old.id
    )
    UPDATE chat.responses r SET ended_at = NULL, event_bytes = 0
    FROM old WHERE r.tenant_id = old.tenant_id AND r.id = old.id;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
CALL weir.expose('chat.prune_response_events(bigint, integer)');
