-- Snapshots of the state, and how far the log has got since the last one.
--
-- No binds. Returns one row: the head, how many snapshots there are of the state, how many
-- of anything that are of another log or of an end that this one has lost, and of the
-- first ones' highest position that and the seconds since it was taken, null where there
-- is none. Index: events_pkey.
WITH found AS (
    SELECT s.projection, s.position, s.taken_at,
        s.log = l.id AND (s.position = 0 OR EXISTS (
            SELECT FROM evstore.events AS e
            WHERE e.position = s.position AND e.hash = s.hash)) AS own
    FROM evstore.snapshots AS s, evstore.log AS l
),
newest AS (
    SELECT position, taken_at FROM found
    WHERE own AND projection = 'resources'
    ORDER BY position DESC, taken_at DESC LIMIT 1
)
SELECT
    (SELECT coalesce(max(position), 0) FROM evstore.events),
    (SELECT count(*) FROM found WHERE own AND projection = 'resources'),
    (SELECT count(*) FROM found WHERE NOT own),
    (SELECT position FROM newest),
    (SELECT extract(epoch FROM clock_timestamp() - taken_at)::float8 FROM newest)
