-- Deletes what a new snapshot of a projection makes superfluous.
--
-- Of each label, which is version and fingerprint, the last ones stay. Of other labels than
-- its own, those that a running instance has, or that are younger than a day: who went
-- back to the program before would want them. The new one stays whatever the clock says.
--
-- Binds: id (the new one), projection, version, fingerprint, kept (how many).
WITH ranked AS (
    SELECT id, version, fingerprint, taken_at,
        row_number() OVER (
            PARTITION BY version, fingerprint
            ORDER BY id = %(id)s::uuid DESC, taken_at DESC, id) AS rank
    FROM evstore.snapshots
    WHERE projection = %(projection)s::text
)
DELETE FROM evstore.snapshots AS s
USING ranked AS r
WHERE s.id = r.id AND (
    r.rank > %(kept)s::integer
    OR (
        (r.version, r.fingerprint) <> (%(version)s::integer, %(fingerprint)s::text)
        AND r.taken_at < clock_timestamp() - interval '1 day'
        AND NOT EXISTS (
            SELECT FROM evstore.instances AS i
            WHERE i.seen_at > clock_timestamp() - interval '1 minute'
                AND concat(%(projection)s::text, ':', r.version, ':', r.fingerprint)
                    = ANY (i.projections))
    )
)
