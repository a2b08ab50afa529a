-- What has come after a place of another server's: asked where the log is written.
--
-- Binds: identity, position, hash. Returns one row: whether that place is in this log, the
-- events after it, and for how many seconds the first of them has been there.
-- Index: events_pkey.
SELECT
    EXISTS (SELECT FROM evstore.log WHERE id = %(identity)s::uuid)
        AND (%(position)s::bigint = 0 OR EXISTS (
            SELECT FROM evstore.events
            WHERE position = %(position)s::bigint AND hash = %(hash)s::bytea)),
    greatest(
        0, (SELECT max(position) FROM evstore.events) - %(position)s::bigint),
    coalesce((
        SELECT date_part('epoch', clock_timestamp() - recorded_at)
        FROM evstore.events WHERE position > %(position)s::bigint
        ORDER BY position LIMIT 1), 0)
