-- Makes the next partition ahead of time; nothing to do most of the time.
--
-- Locks: an advisory lock of its own, and the log against another attachment, both until
-- commit; neither readers nor appends wait.
SELECT evstore.ensure_partition()
