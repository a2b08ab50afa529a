-- Commits a record behind everything that is visible, so that it is replicated as well.
--
-- Not an event: a message in the write-ahead log that nobody reads. A commit that writes
-- nothing would not wait for the replica.
SELECT
    CASE WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply')
        THEN '' ELSE set_config('synchronous_commit', 'on', true)
    END,
    pg_logical_emit_message(true, 'evstore', 'settle')
