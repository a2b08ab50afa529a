-- Whether this role may replace what a redaction takes away, and who may; and whether it
-- may drop the snapshots that hold it as well.
--
-- No binds. Returns one row: this role, whether it may, the owner of the table,
-- and whether it may drop snapshots.
SELECT
    current_user::text,
    pg_has_role(current_user, c.relowner, 'USAGE')
        AND has_table_privilege(c.oid, 'UPDATE'),
    pg_get_userbyid(c.relowner)::text,
    has_table_privilege('evstore.snapshots', 'SELECT')
        AND has_table_privilege('evstore.snapshots', 'DELETE')
FROM pg_class AS c
WHERE c.oid = 'evstore.events'::regclass
