-- The events after a place: whole transactions, not many more than `count` events.
--
-- Binds: after (position), hash (of the event there), identity, count.
-- Returns one row: whether the place is in this log, and a JSON array of events.
-- Index: events_pkey. Locks: none.
SELECT
    CASE WHEN %(after)s::bigint = 0
        THEN EXISTS (SELECT FROM evstore.log WHERE id = %(identity)s::uuid)
        ELSE EXISTS (
            SELECT FROM evstore.events
            WHERE position = %(after)s::bigint AND hash = %(hash)s::bytea)
    END,
    (
        SELECT concat('[', string_agg(/*event*/, ',' ORDER BY position), ']')
        FROM (
            SELECT *
            FROM evstore.events
            WHERE position > %(after)s::bigint
              AND position <= coalesce((
                SELECT commit FROM evstore.events
                WHERE position = %(after)s::bigint + %(count)s::bigint),
                9223372036854775807)
            ORDER BY position
        ) AS e
    )
