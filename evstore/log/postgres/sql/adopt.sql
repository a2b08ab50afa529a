-- Gives a log that was never written the identity of the one that is restored into it.
--
-- Binds: identity. A trigger refuses it where there are events; only the owner may.
-- Locks: the one row of evstore.log, until commit.
UPDATE evstore.log SET id = %(identity)s WHERE id <> %(identity)s
