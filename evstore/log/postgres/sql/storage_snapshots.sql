-- What all snapshots take on disk, with their indexes and what was deleted and not reused.
--
-- Locks: both tables, as a read.
SELECT pg_total_relation_size('evstore.snapshots')
    + pg_total_relation_size('evstore.snapshot_chunks')
