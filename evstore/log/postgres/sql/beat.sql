-- Records a heartbeat, and forgets instances that were not seen for a day.
--
-- Binds: id, position, digest, code_version.
WITH old AS (
    DELETE FROM evstore.instances
    WHERE seen_at < clock_timestamp() - interval '1 day' AND id <> %(id)s::uuid
)
INSERT INTO evstore.instances (id, position, digest, code_version, seen_at)
VALUES (%(id)s::uuid, %(position)s, %(digest)s, %(code_version)s, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET
    position = excluded.position,
    digest = excluded.digest,
    code_version = excluded.code_version,
    seen_at = excluded.seen_at
