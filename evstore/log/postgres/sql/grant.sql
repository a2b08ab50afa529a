-- What a role needs to run a store, and no more: run by the owner, {role} is an identifier.
--
-- rights.sql looks for all of this but the view, which is for those who look by SQL.
GRANT USAGE ON SCHEMA evstore TO {role};
GRANT SELECT, INSERT ON evstore.events TO {role};
GRANT SELECT ON evstore.log, evstore.schema_migration, evstore.resources TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON evstore.instances TO {role};
GRANT SELECT, INSERT, DELETE ON evstore.snapshots, evstore.snapshot_chunks TO {role};
GRANT EXECUTE ON FUNCTION evstore.ensure_partition(bigint) TO {role};
