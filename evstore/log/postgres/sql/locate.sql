-- The last place whose time is not after a given one; no row where there is none.
--
-- Binds: time (microseconds). Time never decreases with position, so positions are
-- searched by halves. Index: events_pkey, once a halving. Locks: none.
WITH RECURSIVE halving AS (
    -- Invariant: `low` is 0 or not after the time; `high` is past the head or after it.
    SELECT
        0::bigint AS low,
        coalesce((SELECT max(position) FROM evstore.events), 0) + 1 AS high
    UNION ALL
    SELECT
        CASE WHEN early THEN middle ELSE low END,
        CASE WHEN early THEN high ELSE middle END
    FROM (
        SELECT low, high, (low + high) / 2 AS middle, (
            SELECT recorded_at
                <= timestamptz 'epoch' + %(time)s::bigint * interval '1 microsecond'
            FROM evstore.events
            WHERE position = (low + high) / 2
        ) AS early
        FROM halving
        WHERE high - low > 1
        OFFSET 0 -- or the probe would be made for each use of `early`
    ) AS step
)
SELECT position, hash, round(date_part('epoch', recorded_at) * 1e6)::bigint
FROM evstore.events
WHERE position = (SELECT max(low) FROM halving)
