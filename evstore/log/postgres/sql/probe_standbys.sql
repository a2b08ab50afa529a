-- The replicas that are attached to this server, as far as our role may know.
--
-- No binds. Returns name, state, synchrony, bytes and seconds that its replay is behind;
-- all but the name are null for a role that is not a member of pg_read_all_stats.
SELECT
    coalesce(application_name, ''), state, sync_state,
    pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint,
    date_part('epoch', replay_lag)
FROM pg_stat_replication
WHERE state IS DISTINCT FROM 'backup'
ORDER BY 1, pid
