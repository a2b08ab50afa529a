-- Adds a chunk of a snapshot that will be there once it is whole.
--
-- Binds: snapshot, number, data.
INSERT INTO evstore.snapshot_chunks (snapshot, number, data)
VALUES (%(snapshot)s, %(number)s, %(data)b)
