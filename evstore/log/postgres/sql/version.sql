-- What `evstore migrate` has applied, oldest first.
SELECT version, name, checksum, applied_at, dirty, readable_from, writable_from
FROM evstore.schema_migration
ORDER BY version
