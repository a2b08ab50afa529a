-- Settings of the sessions that append and follow: each statement has one good plan, and
-- one made while the table was empty would otherwise be kept.
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;
SET jit = off;
