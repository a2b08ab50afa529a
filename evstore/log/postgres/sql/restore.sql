-- Takes in events as they were, by binary COPY, inside a turn and directly after the head.
--
-- Locks: as an append.
COPY evstore.events (
    position, commit, recorded_at, tx, schema_version, size, actor, operation,
    type, mesh, name, salt, hash, body_digest, metadata, body)
FROM STDIN (FORMAT binary)
