-- What a role lacks of what it takes to run a store, and what it may do beyond that.
--
-- Bind: role, null for our own. Returns one row: the role, whether it is a superuser,
-- whether it has the rights of the owner of the log, what is missing, what is beyond; no
-- row where there is no such role. What is needed is what grant.sql grants.
-- Names are looked up in the catalogs: by name, it would take a right on the schema.
WITH role AS (
    SELECT oid, rolname, rolsuper
    FROM pg_roles
    WHERE rolname = coalesce(%(role)s::name, current_user)
),
relation AS (
    SELECT c.oid, 'evstore.' || c.relname AS name, c.relname, c.relowner
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'evstore' AND c.relkind IN ('r', 'p', 'v')
),
wanted (relname, privilege, needed) AS (VALUES
    ('events', 'SELECT', true), ('events', 'INSERT', true),
    ('events', 'UPDATE', false), ('events', 'DELETE', false),
    ('events', 'TRUNCATE', false), ('events', 'TRIGGER', false),
    ('log', 'SELECT', true),
    ('log', 'INSERT', false), ('log', 'UPDATE', false), ('log', 'DELETE', false),
    ('log', 'TRUNCATE', false), ('log', 'TRIGGER', false),
    ('schema_migration', 'SELECT', true),
    ('schema_migration', 'INSERT', false), ('schema_migration', 'UPDATE', false),
    ('schema_migration', 'DELETE', false), ('schema_migration', 'TRUNCATE', false),
    ('instances', 'SELECT', true), ('instances', 'INSERT', true),
    ('instances', 'UPDATE', true), ('instances', 'DELETE', true),
    ('snapshots', 'SELECT', true), ('snapshots', 'INSERT', true),
    ('snapshots', 'DELETE', true),
    ('snapshot_chunks', 'SELECT', true), ('snapshot_chunks', 'INSERT', true),
    ('snapshot_chunks', 'DELETE', true)
),
found (name, needed, has) AS (
    SELECT 'USAGE on schema evstore', true, has_schema_privilege(r.oid, n.oid, 'USAGE')
    FROM role AS r, pg_namespace AS n WHERE n.nspname = 'evstore'
    UNION ALL
    SELECT 'CREATE on schema evstore', false, has_schema_privilege(r.oid, n.oid, 'CREATE')
    FROM role AS r, pg_namespace AS n WHERE n.nspname = 'evstore'
    UNION ALL
    SELECT
        w.privilege || ' on ' || t.name, w.needed,
        has_table_privilege(r.oid, t.oid, w.privilege)
    FROM role AS r, wanted AS w JOIN relation AS t USING (relname)
    UNION ALL
    -- Nobody needs a right on a partition.
    SELECT privilege || ' on ' || t.name, false, has_table_privilege(r.oid, t.oid, privilege)
    FROM role AS r, relation AS t
    JOIN pg_inherits AS i ON i.inhrelid = t.oid,
        unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS privilege
    UNION ALL
    SELECT
        'EXECUTE on function evstore.' || p.proname, true,
        has_function_privilege(r.oid, p.oid, 'EXECUTE')
    FROM role AS r, pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = 'evstore' AND p.proname = 'ensure_partition'
)
SELECT
    r.rolname::text,
    r.rolsuper,
    coalesce(pg_has_role(r.oid, t.relowner, 'USAGE'), false),
    ARRAY(SELECT name FROM found WHERE needed AND NOT has ORDER BY name),
    ARRAY(SELECT name FROM found WHERE has AND NOT needed ORDER BY name)
FROM role AS r
LEFT JOIN relation AS t ON t.relname = 'events'
