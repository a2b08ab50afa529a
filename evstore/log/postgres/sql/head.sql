-- The last place in the log; no row where it is empty.
--
-- Index: events_pkey, backwards. Locks: none.
SELECT position, hash, round(date_part('epoch', recorded_at) * 1e6)::bigint
FROM evstore.events
ORDER BY position DESC
LIMIT 1
