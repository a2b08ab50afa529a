-- The log's identity, the session's process id, and the clock in microseconds.
SELECT id, pg_backend_pid(), (date_part('epoch', clock_timestamp()) * 1e6)::bigint
FROM evstore.log
