-- Makes partitions for events that are about to be taken in.
--
-- Binds: events (a million at most). Locks: as ensure_partition.sql.
SELECT evstore.ensure_partition(%(events)s::bigint)
