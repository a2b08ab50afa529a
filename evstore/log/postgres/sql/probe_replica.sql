-- Which log a read replica has, and how far: asked there.
--
-- No binds. Returns one row: whether it is a standby, the log's identity, its head and the
-- hash there (0 and null where it is empty). Index: events_pkey, backwards.
SELECT pg_is_in_recovery(), l.id, coalesce(head.position, 0), head.hash
FROM evstore.log AS l
LEFT JOIN (
    SELECT position, hash FROM evstore.events ORDER BY position DESC LIMIT 1
) AS head ON true
