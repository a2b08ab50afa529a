-- Settings of the sessions that read: binds that are null decide the plan.
SET plan_cache_mode = force_custom_plan;
SET jit = off;
