-- Who holds the lock of turns, and who waits for it.
--
-- No binds. Returns whether it is held, whether exclusively, then process, role, program,
-- and for how many seconds its transaction, or else its session's state, has lasted.
SELECT
    l.granted, l.mode = 'ExclusiveLock', l.pid, coalesce(a.usename::text, ''),
    coalesce(a.application_name, ''),
    date_part('epoch', clock_timestamp() - coalesce(a.xact_start, a.state_change))
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.classid = 1702261620 AND l.objid = 1
    AND l.objsubid = 2
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 6 DESC NULLS LAST, l.pid
