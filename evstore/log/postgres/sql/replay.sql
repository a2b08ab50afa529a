-- All events in a range, in order, for one pass over the log.
--
-- Binds: after, until, count, bytes, as literals: COPY takes no parameters. One row for
-- `count` positions: the position before them, and a JSON array of their events, or
-- null where these have more than `bytes` bytes and are to be read in smaller pieces.
-- The server puts the next rows together while the client decodes this one.
-- Index: events_pkey, twice a row. Locks: none.
SELECT
    first,
    CASE WHEN (
        SELECT sum(size) FROM evstore.events
        WHERE position > first AND position <= least(first + {count}, {until})
    ) <= {bytes}
    THEN (
        SELECT concat('[', string_agg(/*event*/, ','), ']')
        FROM (
            SELECT * FROM evstore.events
            WHERE position > first AND position <= least(first + {count}, {until})
            ORDER BY position
        ) AS e
    ) END
FROM generate_series({after}::bigint, {until}::bigint - 1, {count}) AS first
