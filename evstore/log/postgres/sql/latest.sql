-- The last event of each key at or before a position; redactions passed over.
--
-- Binds: type, mesh, name (null: any), until.
-- Returns one JSON array of events a row, in no particular order.
-- Walks events_key from key to key: one probe for the next key, one for its last event,
-- however long the histories are. Locks: none.
WITH RECURSIVE keys AS (
    (
        SELECT type, mesh, name FROM evstore.events
        WHERE (type, mesh, name) >= (
            coalesce(%(type)s::text, ''),
            CASE WHEN %(type)s::text IS NULL THEN ''
                ELSE coalesce(%(mesh)s::text, '') END,
            CASE WHEN %(type)s::text IS NULL OR %(mesh)s::text IS NULL THEN ''
                ELSE coalesce(%(name)s::text, '') END)
        ORDER BY type, mesh, name
        LIMIT 1
    )
    UNION ALL
    SELECT following.* FROM keys, LATERAL (
        -- Nothing but the comparison: beside an equality on type, PostgreSQL would begin
        -- each probe at the first key of the type.
        SELECT e.type, e.mesh, e.name FROM evstore.events AS e
        WHERE (e.type, e.mesh, e.name) > (keys.type, keys.mesh, keys.name)
        ORDER BY e.type, e.mesh, e.name
        LIMIT 1
    ) AS following
    -- The walk ends where the keys with the given beginning end.
    WHERE %(type)s::text IS NULL
       OR following.type = %(type)s::text
      AND (%(mesh)s::text IS NULL
        OR following.mesh = %(mesh)s::text
       AND (%(name)s::text IS NULL OR following.name = %(name)s::text))
), latest AS (
    SELECT found.*, row_number() OVER () AS number
    FROM keys, LATERAL (
        SELECT e.* FROM evstore.events AS e
        WHERE e.type = keys.type AND e.mesh = keys.mesh AND e.name = keys.name
          AND e.position <= %(until)s::bigint AND e.operation <> 'redacted'
        ORDER BY e.position DESC
        LIMIT 1
    ) AS found
    WHERE (%(type)s::text IS NULL OR keys.type = %(type)s::text)
      AND (%(mesh)s::text IS NULL OR keys.mesh = %(mesh)s::text)
      AND (%(name)s::text IS NULL OR keys.name = %(name)s::text)
)
SELECT concat('[', string_agg(/*event*/, ','), ']')
FROM latest
GROUP BY number / 200
