-- The running instances, newest heartbeat first: those seen in the last minute.
--
-- Works whichever migrations are applied: what a later one adds is looked up by its name,
-- and is what it was before where it is not there.
--
-- Locks: none that anybody waits for.
SELECT
    id, position, digest, code_version,
    coalesce((to_jsonb(i) ->> 'knows')::integer, 1),
    ARRAY(SELECT jsonb_array_elements_text(to_jsonb(i) -> 'projections')),
    seen_at
FROM evstore.instances AS i
WHERE seen_at > clock_timestamp() - interval '1 minute'
ORDER BY seen_at DESC, id
