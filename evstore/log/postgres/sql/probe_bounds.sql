-- Bounds what a probe may wait for; until the end of its transaction, for a pooler's sake.
SELECT set_config('statement_timeout', '5s', true),
    set_config('lock_timeout', '2s', true)
