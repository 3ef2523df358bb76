-- Outboxes: what a change has to tell the world, written in the transaction of the change, published by a relay.

-- Functions that show or change rows of more than one tenant refuse transactions of anyone else than these:
-- `platform`, `service`. The database layer says in every transaction whose it is (`app.principal`), so a check that
-- is forgotten above is still made here.
CREATE FUNCTION weir.require(principal text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(current_setting('app.principal', true), '') <> principal THEN
        RAISE EXCEPTION 'only for transactions of a % principal', principal USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;
REVOKE ALL ON FUNCTION weir.require(text) FROM PUBLIC;

-- Relays that listen are woken when the change is committed.
CREATE FUNCTION weir.outbox_written() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('weir_outbox_' || TG_TABLE_SCHEMA, '');
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION weir.outbox_written() FROM PUBLIC;

-- Gives a schema its outbox: a table that services only insert into, and functions for the relay. A service that
-- wants one calls this in a migration.
CREATE PROCEDURE weir.add_outbox(area name)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $add$
BEGIN
    EXECUTE format($sql$
        CREATE TABLE %1$I.outbox (
            tenant_id  uuid NOT NULL,
            -- Rows of one key leave in the order in which they were written.
            key        text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 300),
            seq        bigint GENERATED ALWAYS AS IDENTITY,
            event_id   uuid NOT NULL,
            -- Of a stream, or `$KV.<bucket>.<key>`.
            subject    text NOT NULL CHECK (char_length(subject) BETWEEN 1 AND 500),
            -- Well below what NATS takes.
            payload    bytea NOT NULL CHECK (octet_length(payload) <= 524288),
            -- W3C trace context of the request behind the change.
            trace      text CHECK (char_length(trace) <= 200),
            time_ms    bigint NOT NULL,
            written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            failures   integer NOT NULL DEFAULT 0,
            -- After a failure, not before this.
            retry_at   timestamptz,
            PRIMARY KEY (tenant_id, key, seq)
        ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)$sql$, area);
    EXECUTE format('CREATE UNIQUE INDEX outbox_seq ON %1$I.outbox (seq)', area);
    EXECUTE format('CREATE TRIGGER outbox_written AFTER INSERT ON %1$I.outbox'
        ' FOR EACH STATEMENT EXECUTE FUNCTION weir.outbox_written()', area);
    CALL weir.protect(format('%1$I.outbox', area)::regclass, 'insert');

    -- The oldest rows that nobody else holds, theirs until the transaction ends. Whoever holds a key's first row has
    -- the key: later rows of it come with it or wait, whichever relay asks.
    EXECUTE format($sql$
        CREATE FUNCTION %1$I.outbox_take(max_rows integer)
        RETURNS TABLE (
            tenant_id uuid, key text, seq bigint, event_id uuid, subject text, payload bytea, trace text, time_ms bigint
        )
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        BEGIN
            PERFORM weir.require('service');
            RETURN QUERY
                WITH heads AS MATERIALIZED (
                    SELECT o.tenant_id, o.key FROM %1$I.outbox o
                    WHERE (o.retry_at IS NULL OR o.retry_at <= now())
                      AND NOT EXISTS (
                          SELECT FROM %1$I.outbox e
                          WHERE e.tenant_id = o.tenant_id AND e.key = o.key AND e.seq < o.seq)
                    ORDER BY o.seq LIMIT max_rows
                    FOR UPDATE OF o SKIP LOCKED
                )
                SELECT o.tenant_id, o.key, o.seq, o.event_id, o.subject, o.payload, o.trace, o.time_ms
                FROM %1$I.outbox o JOIN heads h ON h.tenant_id = o.tenant_id AND h.key = o.key
                ORDER BY o.seq LIMIT max_rows
                FOR UPDATE OF o;
        END $body$ $sql$, area);
    CALL weir.expose(format('%1$I.outbox_take(integer)', area)::regprocedure);

    -- What became of rows that were taken, within the same transaction.
    EXECUTE format($sql$
        CREATE FUNCTION %1$I.outbox_settle(published bigint[], failed bigint[]) RETURNS void
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        BEGIN
            PERFORM weir.require('service');
            DELETE FROM %1$I.outbox WHERE seq = ANY (published);
            UPDATE %1$I.outbox
            SET failures = failures + 1,
                retry_at = clock_timestamp() + make_interval(secs => least(30, 0.1 * 2 ^ least(failures, 9)))
            WHERE seq = ANY (failed);
        END $body$ $sql$, area);
    CALL weir.expose(format('%1$I.outbox_settle(bigint[], bigint[])', area)::regprocedure);

    -- How many rows wait (ten thousand stands for more), and since how many milliseconds the oldest does.
    EXECUTE format($sql$
        CREATE FUNCTION %1$I.outbox_state() RETURNS TABLE (waiting bigint, oldest_ms bigint)
        LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        BEGIN
            PERFORM weir.require('service');
            RETURN QUERY
                SELECT count(*),
                    coalesce(extract(epoch FROM clock_timestamp() - min(o.written_at)) * 1000, 0)::bigint
                FROM (SELECT written_at FROM %1$I.outbox ORDER BY seq LIMIT 10000) o;
        END $body$ $sql$, area);
    CALL weir.expose(format('%1$I.outbox_state()', area)::regprocedure);
END $add$;
REVOKE ALL ON PROCEDURE weir.add_outbox(name) FROM PUBLIC;
