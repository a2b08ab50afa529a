-- Records a heartbeat, and forgets instances that were not seen for a day.
--
-- Returns whether the instance stands. A renewal is an UPDATE alone: it never brings back
-- a row that another instance has deleted, not even one whose answer was lost. An UPDATE
-- that meets a deletion under way waits for it, and then finds nothing.
--
-- Binds: id, position, digest, code_version, knows, projections, renewal.
WITH old AS (
    DELETE FROM evstore.instances
    WHERE seen_at < clock_timestamp() - interval '1 day' AND id <> %(id)s::uuid
),
renewed AS (
    UPDATE evstore.instances SET
        position = %(position)s,
        digest = %(digest)s,
        code_version = %(code_version)s,
        knows = %(knows)s,
        projections = %(projections)s,
        seen_at = clock_timestamp()
    WHERE id = %(id)s::uuid
    RETURNING id
),
joined AS (
    INSERT INTO evstore.instances (
        id, position, digest, code_version, knows, projections, seen_at)
    SELECT
        %(id)s::uuid, %(position)s, %(digest)s, %(code_version)s, %(knows)s,
        %(projections)s::text[], clock_timestamp()
    WHERE NOT %(renewal)s::boolean AND NOT EXISTS (SELECT FROM renewed)
    ON CONFLICT (id) DO UPDATE SET
        position = excluded.position,
        digest = excluded.digest,
        code_version = excluded.code_version,
        knows = excluded.knows,
        projections = excluded.projections,
        seen_at = excluded.seen_at
    RETURNING id
)
SELECT EXISTS (SELECT FROM renewed) OR EXISTS (SELECT FROM joined)
