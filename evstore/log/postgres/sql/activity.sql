-- What happened in a range, counted in several ways in one pass over it.
--
-- Binds: after, until, top. One row a group: in which way (all, type, actor, resource,
-- hour, day), its columns, the number of events, of transactions that end among them and
-- of their bytes, and the number of groups of that way. Of actors and resources the `top`
-- busiest come. Index: events_pkey, or none where the range is most of the log.
-- Locks: none.
WITH counted AS (
    SELECT
        CASE GROUPING(type, operation, actor, name, hour, day)
            WHEN 63 THEN 'all'
            WHEN 15 THEN 'type'
            WHEN 55 THEN 'actor'
            WHEN 27 THEN 'resource'
            WHEN 61 THEN 'hour'
            ELSE 'day'
        END AS way,
        type, operation, actor, mesh, name, hour, day,
        count(*) AS events,
        count(*) FILTER (WHERE position = commit) AS transactions,
        coalesce(sum(size), 0)::bigint AS bytes
    FROM (
        SELECT *,
            date_part('hour', recorded_at AT TIME ZONE 'UTC')::int AS hour,
            (recorded_at AT TIME ZONE 'UTC')::date::text AS day
        FROM evstore.events
        WHERE position > %(after)s::bigint AND position <= %(until)s::bigint
    ) AS e
    GROUP BY GROUPING SETS (
        (), (type, operation), (actor), (type, mesh, name), (hour), (day))
), ranked AS (
    SELECT *,
        row_number() OVER (
            PARTITION BY way
            ORDER BY events DESC, actor, type, mesh, name) AS rank,
        count(*) OVER (PARTITION BY way) AS groups
    FROM counted
)
SELECT
    way, type, operation, actor, mesh, name, hour, day, events, transactions, bytes,
    groups
FROM ranked
WHERE way NOT IN ('actor', 'resource') OR rank <= %(top)s::bigint
ORDER BY way, rank
