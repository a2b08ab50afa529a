-- Sessions in this database that are idle in a transaction, and those of other roles that
-- ours may not look at (their state is null).
--
-- No binds. Returns process, role, program, state, and for how many seconds.
SELECT
    pid, usename::text, application_name,
    CASE WHEN query <> '<insufficient privilege>' THEN state END,
    date_part('epoch', clock_timestamp() - state_change)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename IS NOT NULL
    AND (state LIKE 'idle in transaction%' OR query = '<insufficient privilege>')
ORDER BY state_change, pid
LIMIT 1000
