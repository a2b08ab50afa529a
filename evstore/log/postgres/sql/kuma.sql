-- All resources of a Kuma or Kong Mesh database, as JSON: older ones have fewer columns.
--
-- Locks: none that matter; run in a read-only transaction of one snapshot.
SELECT row_to_json(r)::text FROM resources AS r
