-- evstore: readable_from 1, writable_from 1
--
-- The log, its identity, and what guards them. A program that knows schema version
-- `readable_from` or later may read a database at this version, one that knows
-- `writable_from` or later may write it.
--
-- Advisory locks are two integers: 1702261620 ('evst' in ASCII) and
-- 1 the turn to append, 2 the making of partitions, 3 migrations.

DO $$
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'the database is encoded in %, evstore needs UTF8',
            current_setting('server_encoding')
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Create it with: CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0';
    END IF;
END
$$;

-- The log itself: exactly one row. Its id goes into the hash of position 0, so that no
-- two logs have a hash in common. partition_size (positions a partition) may be changed
-- by the owner; it counts from the next partition on.
CREATE TABLE evstore.log (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    partition_size bigint NOT NULL DEFAULT 5000000 CHECK (partition_size > 0)
);
CREATE UNIQUE INDEX log_has_one_row ON evstore.log ((true));
INSERT INTO evstore.log DEFAULT VALUES;

-- Every change of every resource, in one order: 1, 2, 3, ... without gaps. The primary
-- key is the comparison of compare-and-append. `body` is json, not jsonb: the text as
-- written is what the hash covers.
CREATE TABLE evstore.events (
    position bigint NOT NULL CHECK (position > 0),
    commit bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    tx uuid NOT NULL,
    schema_version integer NOT NULL,
    size integer NOT NULL,
    actor text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL
        CHECK (operation IN ('created', 'updated', 'deleted', 'redacted')),
    type text COLLATE "C" NOT NULL,
    mesh text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    salt bytea NOT NULL CHECK (length(salt) = 16),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    body_digest bytea CHECK (length(body_digest) = 32),
    metadata json NOT NULL,
    body json NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (position),
    CONSTRAINT events_commit_check CHECK (commit >= position)
) PARTITION BY RANGE (position);
CREATE INDEX events_key ON evstore.events (type, mesh, name, position);

-- Append-only. The one change that is let through is a redaction: by the owner, in a
-- transaction whose setting evstore.redaction names the position of the `redacted` event
-- that announces it. That event's metadata says which `position` is redacted, and the
-- digests, in hex, of the body that goes (`old_digest`) and of the one that comes
-- (`new_digest`). Body and salt are replaced, body_digest keeps what they hashed to.
CREATE FUNCTION evstore.guard_events() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    redaction bigint := nullif(current_setting('evstore.redaction', true), '');
    expected evstore.events;
BEGIN
    IF TG_OP = 'UPDATE' AND redaction IS NOT NULL THEN
        expected := OLD;
        expected.body := NEW.body;
        expected.salt := NEW.salt;
        expected.body_digest := coalesce(
            OLD.body_digest, sha256(OLD.salt || convert_to(OLD.body::text, 'UTF8')));
        -- json has no equality of its own: rows are compared as text.
        IF NEW::text = expected::text
            AND EXISTS (
                SELECT FROM evstore.events AS r
                WHERE r.position = redaction AND r.operation = 'redacted'
                  AND r.position > OLD.position AND OLD.operation <> 'redacted'
                  AND (r.type, r.mesh, r.name) = (OLD.type, OLD.mesh, OLD.name)
                  AND (r.metadata ->> 'position')::bigint = OLD.position
                  AND r.metadata ->> 'old_digest' = encode(expected.body_digest, 'hex')
                  AND r.metadata ->> 'new_digest' = encode(
                      sha256(NEW.salt || convert_to(NEW.body::text, 'UTF8')), 'hex'))
            AND octet_length(NEW.body::text) <= OLD.size + 65536
            AND pg_has_role(
                current_user,
                (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'evstore.events is append-only: % refused', TG_OP
        USING ERRCODE = 'object_not_in_prerequisite_state';
END
$$;

CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON evstore.events
    FOR EACH ROW EXECUTE FUNCTION evstore.guard_events();
CREATE TRIGGER append_only_table BEFORE TRUNCATE ON evstore.events
    FOR EACH STATEMENT EXECUTE FUNCTION evstore.guard_events();
ALTER TABLE evstore.events ENABLE ALWAYS TRIGGER append_only_rows;
ALTER TABLE evstore.events ENABLE ALWAYS TRIGGER append_only_table;

-- The identity stays; only a log that was never written may take over another's.
CREATE FUNCTION evstore.guard_log() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.id = OLD.id OR NOT EXISTS (SELECT FROM evstore.events) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the identity of a log does not change: % refused', TG_OP
        USING ERRCODE = 'object_not_in_prerequisite_state';
END
$$;

CREATE TRIGGER identity_row BEFORE UPDATE OR DELETE ON evstore.log
    FOR EACH ROW EXECUTE FUNCTION evstore.guard_log();
CREATE TRIGGER identity_table BEFORE TRUNCATE ON evstore.log
    FOR EACH STATEMENT EXECUTE FUNCTION evstore.guard_log();
ALTER TABLE evstore.log ENABLE ALWAYS TRIGGER identity_row;
ALTER TABLE evstore.log ENABLE ALWAYS TRIGGER identity_table;

-- A wake-up, once a batch. It carries nothing that anybody trusts.
CREATE FUNCTION evstore.wake_followers() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('evstore.notify', true) IS DISTINCT FROM 'off' THEN
        PERFORM pg_notify('evstore', '');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER wake_followers AFTER INSERT ON evstore.events
    FOR EACH STATEMENT EXECUTE FUNCTION evstore.wake_followers();

-- Makes partitions until at least half a partition is free after the head, or `ahead`
-- positions where that is more (a million at most); returns the first position that has
-- no partition. Called ahead of time, never inside an append.
-- CREATE TABLE ... PARTITION OF would lock the parent against everybody; a table made
-- apart and attached does not.
CREATE FUNCTION evstore.ensure_partition(ahead bigint DEFAULT 0) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
DECLARE
    size bigint;
    head bigint;
    lower_bound bigint;
    upper_bound bigint;
    partition text;
BEGIN
    PERFORM pg_advisory_xact_lock(1702261620, 2);
    SELECT partition_size INTO size FROM evstore.log;
    SELECT coalesce(max(position), 0) INTO head FROM evstore.events;
    SELECT coalesce(max(
        substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO [(]''([0-9]+)''[)]')::bigint), 1)
    INTO upper_bound
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'evstore.events'::regclass;
    WHILE upper_bound <= head + greatest((size + 1) / 2, least(ahead, 1000000)) LOOP
        lower_bound := upper_bound;
        upper_bound := lower_bound + size;
        partition := 'events_' || lpad(lower_bound::text, 19, '0');
        EXECUTE format(
            'CREATE TABLE evstore.%I (LIKE evstore.events INCLUDING ALL)', partition);
        EXECUTE format(
            'CREATE TRIGGER append_only_table BEFORE TRUNCATE ON evstore.%I
             FOR EACH STATEMENT EXECUTE FUNCTION evstore.guard_events()', partition);
        EXECUTE format(
            'ALTER TABLE evstore.%I ENABLE ALWAYS TRIGGER append_only_table', partition);
        EXECUTE format(
            'ALTER TABLE evstore.events ATTACH PARTITION evstore.%I
             FOR VALUES FROM (%s) TO (%s)', partition, lower_bound, upper_bound);
    END LOOP;
    RETURN upper_bound;
END
$$;
REVOKE ALL ON FUNCTION evstore.ensure_partition(bigint) FROM PUBLIC;
SELECT evstore.ensure_partition();

-- Heartbeats: who runs, up to which position, and the digest of the state there.
CREATE TABLE evstore.instances (
    id uuid PRIMARY KEY,
    position bigint NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    code_version text NOT NULL,
    seen_at timestamptz NOT NULL
);

-- Current state, for plain SQL. The order lets the index on the key serve, backwards.
CREATE VIEW evstore.resources AS
SELECT
    type,
    mesh,
    name,
    position AS version,
    commit,
    body -> 'spec' AS spec,
    (body ->> 'status')::json AS status,
    body -> 'labels' AS labels,
    (body ->> 'owner')::json AS owner,
    coalesce((metadata ->> 'created_version')::bigint, position) AS created_version,
    coalesce(
        timestamptz 'epoch'
        + (metadata ->> 'created_at')::bigint * interval '1 microsecond',
        recorded_at
    ) AS created_at,
    recorded_at AS modified_at
FROM (
    SELECT DISTINCT ON (type, mesh, name) *
    FROM evstore.events
    WHERE operation <> 'redacted'
    ORDER BY type DESC, mesh DESC, name DESC, position DESC
) AS latest
WHERE operation <> 'deleted';
