-- Settings of the transaction that restores: as durable as any append, and nobody is
-- woken.
SELECT
    CASE WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply')
        THEN '' ELSE set_config('synchronous_commit', 'on', true)
    END,
    set_config('evstore.notify', 'off', true)
