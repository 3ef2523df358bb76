-- A relay's look into an outbox stays cheap however many letters one key has, and letters that were refused go behind
-- those that were not: one tenant whose letters nobody takes holds up nobody else's.

-- The function that takes letters, for a schema that has the table.
CREATE PROCEDURE weir.add_outbox_take(area name)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $add$
BEGIN
    EXECUTE format('CREATE INDEX outbox_order ON %1$I.outbox ((failures > 0), seq)', area);

    -- Of rows that nobody else holds: those never refused first, the oldest first; theirs until the transaction ends.
    -- Whoever holds a key's first row has the key: later rows of it come with it or wait, whichever relay asks.
    --
    -- Hash and merge joins would compare every row of a key with every other of it. Its index finds a row before
    -- another at once.
    EXECUTE format($sql$
        CREATE OR REPLACE FUNCTION %1$I.outbox_take(max_rows integer)
        RETURNS TABLE (
            tenant_id uuid, key text, seq bigint, event_id uuid, subject text, payload bytea, trace text, time_ms bigint
        )
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        SET enable_hashjoin = off SET enable_mergejoin = off AS $body$
        #variable_conflict use_column
        BEGIN
            PERFORM weir.require('service');
            RETURN QUERY
                WITH heads AS MATERIALIZED (
                    SELECT o.tenant_id, o.key, o.failures > 0 AS refused FROM %1$I.outbox o
                    WHERE (o.retry_at IS NULL OR o.retry_at <= now())
                      AND NOT EXISTS (
                          SELECT FROM %1$I.outbox e
                          WHERE e.tenant_id = o.tenant_id AND e.key = o.key AND e.seq < o.seq)
                    ORDER BY o.failures > 0, o.seq LIMIT max_rows
                    FOR UPDATE OF o SKIP LOCKED
                )
                SELECT o.tenant_id, o.key, o.seq, o.event_id, o.subject, o.payload, o.trace, o.time_ms
                FROM heads h CROSS JOIN LATERAL (
                    SELECT * FROM %1$I.outbox n
                    WHERE n.tenant_id = h.tenant_id AND n.key = h.key
                    ORDER BY n.seq LIMIT max_rows
                ) o
                ORDER BY h.refused, o.seq LIMIT max_rows;
        END $body$ $sql$, area);
END $add$;
REVOKE ALL ON PROCEDURE weir.add_outbox_take(name) FROM PUBLIC;

-- Outboxes made from here on have it too.
ALTER PROCEDURE weir.add_outbox(name) RENAME TO add_outbox_parts;
CREATE PROCEDURE weir.add_outbox(area name)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    CALL weir.add_outbox_parts(area);
    CALL weir.add_outbox_take(area);
END $$;
REVOKE ALL ON PROCEDURE weir.add_outbox(name) FROM PUBLIC;

CALL weir.add_outbox_take('control');
CALL weir.add_outbox_take('routing');
