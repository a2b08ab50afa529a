-- The server's clock, in microseconds since 1970.
SELECT (date_part('epoch', clock_timestamp()) * 1e6)::bigint
