-- The heartbeats of all instances, newest first.
SELECT id, position, digest, code_version, knows, projections, seen_at
FROM evstore.instances
ORDER BY seen_at DESC
