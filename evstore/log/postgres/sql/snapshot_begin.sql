-- Begins to save a snapshot, unless another session is at it; says whether it may.
--
-- The time-out bounds what a saver that stands still can cost: nobody else saves
-- meanwhile. Both end with the transaction, so that it works behind a pooler.
SELECT pg_try_advisory_xact_lock(1702261620, 4),
    set_config('idle_in_transaction_session_timeout', '60s', true)
