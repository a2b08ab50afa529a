-- What each partition takes on disk: its table with large values apart, and its indexes.
--
-- Locks: each partition, as a read.
SELECT c.relname, pg_table_size(c.oid), pg_indexes_size(c.oid)
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'evstore.events'::regclass
ORDER BY c.relname
