-- Whether this role may replace what a redaction takes away, and who may.
--
-- No binds. Returns one row: this role, whether it may, the owner of the table.
SELECT
    current_user::text,
    pg_has_role(current_user, c.relowner, 'USAGE')
        AND has_table_privilege(c.oid, 'UPDATE'),
    pg_get_userbyid(c.relowner)::text
FROM pg_class AS c
WHERE c.oid = 'evstore.events'::regclass
