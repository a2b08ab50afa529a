-- The last event of each key at or before a position; redactions passed over.
--
-- Binds: type, mesh, name (null: any), until.
-- Returns one JSON array of events a row, in no particular order.
-- Walks events_key from key to key: one probe for the next key, one for its last event,
-- however long the histories are. Locks: none.
WITH RECURSIVE keys AS (
    (
        SELECT type, mesh, name FROM evstore.events
        WHERE (%(type)s::text IS NULL OR type = %(type)s::text)
          AND (%(mesh)s::text IS NULL OR mesh = %(mesh)s::text)
          AND (%(name)s::text IS NULL OR name = %(name)s::text)
        ORDER BY type, mesh, name
        LIMIT 1
    )
    UNION ALL
    SELECT following.* FROM keys, LATERAL (
        SELECT e.type, e.mesh, e.name FROM evstore.events AS e
        WHERE (e.type, e.mesh, e.name) > (keys.type, keys.mesh, keys.name)
          AND (%(type)s::text IS NULL OR e.type = %(type)s::text)
          AND (%(mesh)s::text IS NULL OR e.mesh = %(mesh)s::text)
          AND (%(name)s::text IS NULL OR e.name = %(name)s::text)
        ORDER BY e.type, e.mesh, e.name
        LIMIT 1
    ) AS following
), latest AS (
    SELECT found.*, row_number() OVER () AS number
    FROM keys, LATERAL (
        SELECT e.* FROM evstore.events AS e
        WHERE e.type = keys.type AND e.mesh = keys.mesh AND e.name = keys.name
          AND e.position <= %(until)s::bigint AND e.operation <> 'redacted'
        ORDER BY e.position DESC
        LIMIT 1
    ) AS found
)
SELECT concat('[', string_agg(/*event*/, ','), ']')
FROM latest
GROUP BY number / 200
