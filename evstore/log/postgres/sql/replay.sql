-- All events in a range, in order, for one pass over the log.
--
-- Binds: after, until, count, bytes, as literals: COPY takes no parameters. One row a
-- chunk of `count` events, cut where their sizes add up to `bytes`: the server puts the
-- next chunks together while the client decodes this one.
-- Index: events_pkey, once a chunk. Locks: none.
SELECT piece.events
FROM generate_series({after}::bigint, {until}::bigint - 1, {count}) AS first,
LATERAL (
    SELECT concat('[', string_agg(/*event*/, ',' ORDER BY position), ']') AS events
    FROM (
        SELECT *, (sum(size) OVER (ORDER BY position) - size) / {bytes} AS piece
        FROM evstore.events
        WHERE position > first AND position <= least(first + {count}, {until})
        ORDER BY position
    ) AS e
    GROUP BY piece
    ORDER BY piece
) AS piece
