-- Replaces body and salt of one event, as an earlier event has announced; the digest of
-- what stood there first stays in body_digest, so that the chain of hashes holds.
--
-- Binds: announced (position of the announcement, at which the guard of the table looks),
-- position, body, salt, before (digest of what is there). Updates no row where something
-- else is there by now than what the new body was made of.
-- Index: events_pkey. Locks: ROW EXCLUSIVE on the table and a partition, the row.
WITH guard AS MATERIALIZED (
    SELECT set_config('evstore.redaction', %(announced)s::bigint::text, true) AS setting,
        CASE WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply')
            THEN '' ELSE set_config('synchronous_commit', 'on', true)
        END AS durable
)
UPDATE evstore.events AS e
SET body = %(body)s::text::json, salt = %(salt)s::bytea,
    body_digest = coalesce(
        e.body_digest, sha256(e.salt || convert_to(e.body::text, 'UTF8')))
FROM guard
WHERE e.position = %(position)s::bigint
    AND sha256(e.salt || convert_to(e.body::text, 'UTF8')) = %(before)s::bytea
    AND guard.setting IS NOT NULL AND guard.durable IS NOT NULL
RETURNING e.position
