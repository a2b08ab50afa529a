-- The last event of each key before a position; redactions passed over.
--
-- Binds: types, meshes, names, bounds: an element a key.
-- Returns one row a key, in their order: the event as a JSON array, or null.
-- Index: events_key, a probe a key. Locks: none.
SELECT (
    SELECT /*event*/
    FROM evstore.events
    WHERE type = wanted.its_type AND mesh = wanted.its_mesh AND name = wanted.its_name
      AND position < wanted.its_bound AND operation <> 'redacted'
    ORDER BY position DESC
    LIMIT 1
)
FROM unnest(
    %(types)s::text[], %(meshes)s::text[], %(names)s::text[], %(bounds)s::bigint[]
) WITH ORDINALITY AS wanted (its_type, its_mesh, its_name, its_bound, number)
ORDER BY number
