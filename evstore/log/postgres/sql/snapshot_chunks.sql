-- The chunks of a snapshot, in order.
--
-- Binds: snapshot, as a literal: COPY takes no parameters. Index:
-- snapshot_chunks_pkey. Locks: none.
SELECT data FROM evstore.snapshot_chunks WHERE snapshot = {snapshot} ORDER BY number
