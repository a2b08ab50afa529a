-- The events at some positions, in order of position.
--
-- Binds: positions.
-- Returns one JSON array of events. Index: events_pkey. Locks: none.
SELECT concat('[', string_agg(/*event*/, ',' ORDER BY position), ']')
FROM evstore.events
WHERE position = ANY (%(positions)s::bigint[])
