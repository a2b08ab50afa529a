-- All snapshots, the one of the highest position first.
--
-- No binds. Locks: none.
SELECT
    id, log, projection, version, fingerprint,
    position, hash, round(date_part('epoch', recorded_at) * 1e6)::bigint,
    digest, chunks, size, checksum, taken_at, code_version
FROM evstore.snapshots
ORDER BY position DESC, taken_at DESC, id
