-- The place at a position, and where its transaction ends; no row past the head.
--
-- Binds: position. Index: events_pkey. Locks: none.
SELECT position, hash, round(date_part('epoch', recorded_at) * 1e6)::bigint, commit
FROM evstore.events
WHERE position = %(position)s::bigint
