-- Deletes the heartbeat of an instance that has not been seen for a number of seconds.
--
-- The DELETE waits for a renewal under way, and looks again at what that has left. Returns
-- the seconds that are left until it can succeed, and no row where no heartbeat is there
-- any more. The SELECT sees the row as it was before a renewal that was waited for, hence
-- the lower bound: whoever is told so little asks again.
--
-- Binds: id, seconds. Locks: the row.
WITH expired AS (
    DELETE FROM evstore.instances
    WHERE id = %(id)s::uuid
        AND seen_at < clock_timestamp() - make_interval(secs => %(seconds)s)
    RETURNING id
)
SELECT greatest(
    0.001,
    %(seconds)s + extract(epoch FROM seen_at - clock_timestamp())
)::float8
FROM evstore.instances
WHERE id = %(id)s::uuid AND NOT EXISTS (SELECT FROM expired)
