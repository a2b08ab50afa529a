-- The place at the end of the transaction that a position is part of; no row past the
-- head.
--
-- Binds: position. Index: events_pkey, twice. Locks: none.
SELECT position, hash, round(date_part('epoch', recorded_at) * 1e6)::bigint
FROM evstore.events
WHERE position = (
    SELECT commit FROM evstore.events WHERE position = %(position)s::bigint)
