-- Waits for the turn to append: exclusive, until the end of the transaction.
--
-- The time-outs bound what a stalled holder can cost: a waiter gives up after 5 s, and
-- the server ends a holder's session that says nothing for 5 s.
SELECT set_config('lock_timeout', '5s', true),
    set_config('idle_in_transaction_session_timeout', '5s', true),
    pg_advisory_xact_lock(1702261620, 1)
