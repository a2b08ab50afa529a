-- How far the partitions reach.
--
-- No binds. Returns one row: the head, the first position after all partitions, the size of
-- the next one, and whether the position after the head has a partition.
WITH head AS (SELECT coalesce(max(position), 0) AS position FROM evstore.events),
bounds AS (SELECT
        substring(expression FROM 'FROM [(]''([0-9]+)''[)]')::bigint AS lower_bound,
        substring(expression FROM 'TO [(]''([0-9]+)''[)]')::bigint AS upper_bound
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid,
        pg_get_expr(c.relpartbound, c.oid) AS expression
    WHERE i.inhparent = 'evstore.events'::regclass
)
SELECT
    position,
    (SELECT coalesce(max(upper_bound), 1) FROM bounds),
    (SELECT partition_size FROM evstore.log),
    EXISTS (
        SELECT FROM bounds WHERE lower_bound <= position + 1 AND position + 1 < upper_bound)
FROM head
