-- Whether this database has evstore's tables; also for a role without any right on them.
SELECT EXISTS (
    SELECT FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'evstore' AND c.relname = 'events')
