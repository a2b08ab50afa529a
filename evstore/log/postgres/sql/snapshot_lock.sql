-- Waits until no snapshot appears or is dropped, but here, until the transaction ends.
--
-- What follows is a statement of its own: it sees what those have left that were waited
-- for. The time-out bounds what a holder who stands still can cost. What is dropped must
-- not come back after a crash, so the commit waits for the disk.
SELECT pg_advisory_xact_lock(1702261620, 5),
    set_config('idle_in_transaction_session_timeout', '5s', true),
    CASE WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply')
        THEN '' ELSE set_config('synchronous_commit', 'on', true)
    END
