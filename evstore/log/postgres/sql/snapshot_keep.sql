-- Makes a snapshot of the chunks that are there, where it may be one.
--
-- No row where the log is another one or has lost the place, and where an event was
-- redacted after it: the chunks may hold what is gone. A redaction first announces itself
-- and then drops under the same lock, so one of the two sees the other.
--
-- Binds: id, log, projection, version, fingerprint, position, hash, time (microseconds
-- since 1970), digest, chunks, size, checksum, code_version. Index: events_pkey, from the
-- place on. Returns taken_at.
INSERT INTO evstore.snapshots (
    id, log, projection, version, fingerprint, position, hash, recorded_at,
    digest, chunks, size, checksum, code_version)
SELECT
    %(id)s::uuid, id, %(projection)s, %(version)s::integer, %(fingerprint)s,
    %(position)s::bigint, %(hash)s::bytea,
    timestamptz 'epoch' + %(time)s::bigint * interval '1 microsecond',
    %(digest)s, %(chunks)s::integer, %(size)s::bigint, %(checksum)s, %(code_version)s
FROM evstore.log
WHERE id = %(log)s::uuid
    AND (%(position)s::bigint = 0 OR EXISTS (
        SELECT FROM evstore.events
        WHERE position = %(position)s::bigint AND hash = %(hash)s::bytea))
    AND NOT EXISTS (
        SELECT FROM evstore.events
        WHERE position > %(position)s::bigint AND operation = 'redacted')
RETURNING taken_at
