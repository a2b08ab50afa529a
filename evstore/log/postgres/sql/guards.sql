-- The triggers that keep the log append-only, wherever one is missing, switched off, or
-- calls something else.
--
-- No binds. Returns one row a gap: the table, and which trigger. The log, each of its
-- partitions, and the row of its identity must have theirs, ENABLE ALWAYS.
WITH guarded AS (
    SELECT c.oid, c.relname, c.relnamespace, c.relname = 'log' AS identity
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'evstore'
    WHERE c.relname IN ('events', 'log')
        OR c.oid IN (SELECT inhrelid FROM pg_inherits
                     WHERE inhparent = 'evstore.events'::regclass)
)
SELECT g.relname::text, wanted.name
FROM guarded AS g
JOIN (VALUES
    (false, 'append_only_rows', 'guard_events'),
    (false, 'append_only_table', 'guard_events'),
    (true, 'identity_row', 'guard_log'),
    (true, 'identity_table', 'guard_log')) AS wanted (identity, name, function)
    USING (identity)
WHERE NOT EXISTS (
    SELECT FROM pg_trigger AS t
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = g.oid AND t.tgname = wanted.name AND t.tgenabled = 'A'
        AND p.pronamespace = g.relnamespace AND p.proname = wanted.function)
ORDER BY 1, 2
