-- The server and those of its settings that durability hangs on, as this session has them.
--
-- No binds. Returns one row. With a pooler in between, version and cipher are those of the
-- pooler's connection.
SELECT
    current_setting('server_version'),
    current_setting('server_version_num')::integer,
    s.version,
    s.cipher,
    current_setting('fsync')::boolean,
    current_setting('full_page_writes')::boolean,
    current_setting('synchronous_commit'),
    current_setting('synchronous_standby_names'),
    pg_backend_pid()
FROM (SELECT pg_backend_pid() AS pid) AS own
LEFT JOIN pg_stat_ssl AS s USING (pid)
