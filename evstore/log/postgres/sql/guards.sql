-- The triggers that keep the log append-only, wherever one is missing or switched off.
--
-- No binds. Returns one row a gap: the table, and which trigger. The log and each of its
-- partitions must have both, ENABLE ALWAYS.
SELECT c.relname::text, wanted.name
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'evstore'
CROSS JOIN (VALUES ('append_only_rows'), ('append_only_table')) AS wanted (name)
WHERE (c.relname = 'events'
       OR c.oid IN (SELECT inhrelid FROM pg_inherits
                    WHERE inhparent = 'evstore.events'::regclass))
    AND NOT EXISTS (
        SELECT FROM pg_trigger AS t
        WHERE t.tgrelid = c.oid AND t.tgname = wanted.name AND t.tgenabled = 'A')
ORDER BY 1, 2
