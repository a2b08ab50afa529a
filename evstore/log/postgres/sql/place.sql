-- The place at a position; no row past the head.
--
-- Binds: position. Index: events_pkey. Locks: none.
SELECT position, hash, round(date_part('epoch', recorded_at) * 1e6)::bigint
FROM evstore.events
WHERE position = %(position)s::bigint
