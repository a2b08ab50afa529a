-- Rows of each table, and versions of rows that are no longer seen, as last counted.
SELECT schemaname || '.' || relname, n_live_tup, n_dead_tup
FROM pg_stat_user_tables
WHERE schemaname = 'evstore'
ORDER BY 1
