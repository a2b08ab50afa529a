-- A chunk of the events that a reader wants, in order of position.
--
-- Binds: after, until, type, mesh, name, actor, operation, reason (null: any), count,
-- bytes. The reason is a text that an event's reason contains.
-- Returns one row: the number of events looked at (0: the end), the last position among
-- them, and a JSON array of events. A chunk ends at `count` events or `bytes` bytes.
-- Index: events_key where a type is given, events_pkey otherwise. Locks: none. Planned
-- anew each time: which binds are null decides the index.
WITH chunk AS (
    SELECT *
    FROM evstore.events
    WHERE position > %(after)s::bigint AND position <= %(until)s::bigint
      AND (%(type)s::text IS NULL OR type = %(type)s::text)
      AND (%(mesh)s::text IS NULL OR mesh = %(mesh)s::text)
      AND (%(name)s::text IS NULL OR name = %(name)s::text)
      AND (%(actor)s::text IS NULL OR actor = %(actor)s::text)
      AND (%(operation)s::text IS NULL OR operation = %(operation)s::text)
      AND (%(reason)s::text IS NULL
        OR strpos(coalesce(metadata ->> 'reason', ''), %(reason)s::text) > 0)
    ORDER BY position
    LIMIT %(count)s::bigint
), summed AS (
    SELECT *, sum(size) OVER (ORDER BY position) - size AS before
    FROM chunk
)
SELECT
    count(*), max(position),
    concat('[', string_agg(/*event*/, ',' ORDER BY position), ']')
FROM summed
WHERE before < %(bytes)s::bigint
