-- Everything that is stored of the events in a range, in order, for one pass over the log
-- that trusts nothing in it.
--
-- Binds: after, until, count, bytes, as literals: COPY takes no parameters. One row for
-- `count` positions: the position before them, and a JSON array of their events, or null
-- where these have more than `bytes` bytes. An event is that of event.sql, but that any
-- text may hold anything, that a time out of range is null, and that the column `size`
-- comes behind it.
-- Index: events_pkey, twice a row. Locks: none.
SELECT
    first,
    CASE WHEN (
        SELECT coalesce(sum(size), 0) FROM evstore.events
        WHERE position > first AND position <= least(first + {count}, {until})
    ) <= {bytes}
    THEN (
        SELECT concat('[', string_agg(concat(
            '[', position, ',', commit, ',"', encode(uuid_send(tx), 'hex'), '",',
            CASE WHEN recorded_at BETWEEN '1900-01-01' AND '9999-12-31'
                THEN round(date_part('epoch', recorded_at) * 1e6)::bigint::text
                ELSE 'null' END,
            ',', to_json(actor), ',', to_json(operation), ',',
            to_json(concat(type, '/', mesh, '/', name)), ',', schema_version, ',', body,
            ',"', encode(salt, 'base64'), '",',
            CASE WHEN body_digest IS NULL THEN 'null'
                ELSE concat('"', encode(body_digest, 'base64'), '"') END,
            ',', metadata, ',"', encode(hash, 'base64'), '",', size, ']'), ','), ']')
        FROM (
            SELECT * FROM evstore.events
            WHERE position > first AND position <= least(first + {count}, {until})
            ORDER BY position
        ) AS e
    ) END
FROM generate_series({after}::bigint, {until}::bigint - 1, {count}) AS first
