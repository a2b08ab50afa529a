-- Compare-and-append: puts whole transactions directly after a place, all or none.
--
-- Binds: after (position), hash (of the event there, or of
-- the log's identity at position 0), last_time
-- (microseconds, the latest stamp), notify ('on' or 'off'), in_turn (whether this
-- session holds the exclusive lock; before PostgreSQL 16 the shared try would be refused
-- even then, where others wait), then one array a column.
-- Returns one row: turn (false: an instance waits for its turn), follows (false: the
-- place is not in this log), stamped (false: stamps lie over a second ahead of this
-- clock and of the last event), the number of rows inserted, and the clock in microseconds.
-- Index: events_pkey. Locks: the shared advisory lock of a turn, until commit.
WITH gate AS MATERIALIZED (
    SELECT
        CASE WHEN %(in_turn)b::boolean
            THEN true
            ELSE pg_try_advisory_xact_lock_shared(1702261620, 1)
        END AS turn,
        CASE WHEN %(after)b::bigint = 0
            THEN EXISTS (
                SELECT FROM evstore.log
                WHERE sha256('evstore/1'::bytea || uuid_send(id)) = %(hash)b::bytea)
            ELSE EXISTS (
                SELECT FROM evstore.events
                WHERE position = %(after)b::bigint AND hash = %(hash)b::bytea)
        END AS follows,
        -- Not ahead of this clock, or no more after the last event than one microsecond
        -- a transaction: a clock that stepped back must not stop the log.
        %(last_time)b::bigint <= greatest(
            date_part('epoch', clock_timestamp()) * 1e6 + 1e6,
            (SELECT round(date_part('epoch', recorded_at) * 1e6) FROM evstore.events
             WHERE position = %(after)b::bigint)
            + cardinality(%(commits)b::bigint[])) AS stamped,
        CASE WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply')
            THEN '' ELSE set_config('synchronous_commit', 'on', true)
        END AS durable,
        set_config('evstore.notify', %(notify)b::text, true) AS notify
), added AS (
    INSERT INTO evstore.events (
        position, commit, recorded_at, tx, schema_version, size, actor, operation,
        type, mesh, name, salt, hash, metadata, body)
    SELECT
        %(after)b::bigint + e.ordinality, e.commit,
        timestamptz 'epoch' + e.time * interval '1 microsecond',
        encode(e.tx, 'hex')::uuid, e.schema_version,
        octet_length(e.body) + octet_length(e.metadata), e.actor, e.operation,
        e.type, e.mesh, e.name, e.salt, e.hash, e.metadata::json, e.body::json
    FROM gate, unnest(
        %(commits)b::bigint[], %(times)b::bigint[], %(txs)b::bytea[],
        %(schema_versions)b::bigint[], %(actors)b::text[], %(operations)b::text[],
        %(types)b::text[], %(meshes)b::text[], %(names)b::text[],
        %(salts)b::bytea[], %(hashes)b::bytea[], %(metadatas)b::text[],
        %(bodies)b::text[]
    ) WITH ORDINALITY AS e (
        commit, time, tx, schema_version, actor, operation, type, mesh, name, salt,
        hash, metadata, body)
    WHERE gate.turn AND gate.follows AND gate.stamped
        AND gate.durable IS NOT NULL AND gate.notify IS NOT NULL
    RETURNING 1
)
SELECT
    turn, follows, stamped, (SELECT count(*) FROM added),
    (date_part('epoch', clock_timestamp()) * 1e6)::bigint
FROM gate
