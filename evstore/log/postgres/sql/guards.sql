-- The triggers that keep the log append-only, wherever one is missing, switched off, fires
-- at other times, or calls something else than migration 1 has made.
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
    -- The type is the bits of pg_trigger: 27 is BEFORE UPDATE OR DELETE FOR EACH ROW, 34
    -- BEFORE TRUNCATE. The digest is that of the function's body.
    (false, 'append_only_rows', 27, 'guard_events', '13c3bb04b4b3d8a0fc067871feba34ce'),
    (false, 'append_only_table', 34, 'guard_events', '13c3bb04b4b3d8a0fc067871feba34ce'),
    (true, 'identity_row', 27, 'guard_log', '8ecfb92b214b710892f6230755be484a'),
    (true, 'identity_table', 34, 'guard_log', '8ecfb92b214b710892f6230755be484a'))
    AS wanted (identity, name, type, function, body) USING (identity)
WHERE NOT EXISTS (
    SELECT FROM pg_trigger AS t
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = g.oid AND t.tgname = wanted.name AND t.tgenabled = 'A'
        AND t.tgtype = wanted.type AND t.tgqual IS NULL AND t.tgattr::text = ''
        AND p.pronamespace = g.relnamespace AND p.proname = wanted.function
        AND md5(p.prosrc) = wanted.body
        AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp'])
ORDER BY 1, 2
