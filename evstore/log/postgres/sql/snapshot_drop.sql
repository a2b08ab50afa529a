-- Deletes snapshots, and with them their chunks.
--
-- Binds: snapshots (their ids, null for all), since (the lowest position).
DELETE FROM evstore.snapshots
WHERE position >= %(since)s::bigint
    AND (%(snapshots)s::uuid[] IS NULL OR id = ANY (%(snapshots)s::uuid[]))
