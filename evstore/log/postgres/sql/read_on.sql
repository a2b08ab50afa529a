-- The events after a place: whole transactions, not many more than `count` events or
-- `bytes` bytes.
--
-- Binds: after (position), hash (of the event there, or of the log's identity at
-- position 0), count, bytes.
-- Returns one row: whether the place is in this log, and a JSON array of events.
-- Index: events_pkey. Locks: none.
WITH following AS (
    SELECT commit, sum(size) OVER (ORDER BY position) - size AS before
    FROM (
        SELECT position, commit, size FROM evstore.events
        WHERE position > %(after)s::bigint
        ORDER BY position
        LIMIT %(count)s::bigint
    ) AS e
)
SELECT
    CASE WHEN %(after)s::bigint = 0
        THEN EXISTS (
            SELECT FROM evstore.log
            WHERE sha256('evstore/1'::bytea || uuid_send(id)) = %(hash)s::bytea)
        ELSE EXISTS (
            SELECT FROM evstore.events
            WHERE position = %(after)s::bigint AND hash = %(hash)s::bytea)
    END,
    (
        SELECT concat('[', string_agg(/*event*/, ','), ']')
        FROM (
            SELECT * FROM evstore.events
            WHERE position > %(after)s::bigint AND position <= (
                -- Where the last of them ends its transaction.
                SELECT max(commit) FROM following WHERE before < %(bytes)s::bigint)
            ORDER BY position
        ) AS e
    )
