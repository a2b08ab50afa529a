-- evstore: readable_from 1, writable_from 1
-- locks: evstore.snapshots and evstore.snapshot_chunks are new: nobody waits for them.
-- locks: evstore.instances, ACCESS EXCLUSIVE, for some milliseconds: heartbeats wait. If it is not free within 2 s, the step fails and changes nothing.
--
-- Snapshots, and what heartbeats say of the programs that run. Instances of the program
-- before this step go on: they name the columns that they write.
--
-- Two more advisory locks of 1702261620: 4 the saving of a snapshot, by one at a time, and
-- 5 the moment in which one appears or is dropped.

-- Stored folds. A row is there once all of its chunks are, and not before. `position`,
-- `hash` and `recorded_at` are those of the last event in it; of a snapshot of the place
-- before the first event: 0, the hash that all begins with, and 1970.
CREATE TABLE evstore.snapshots (
    id uuid PRIMARY KEY,
    log uuid NOT NULL,
    projection text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    position bigint NOT NULL CHECK (position >= 0),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    recorded_at timestamptz NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    chunks integer NOT NULL CHECK (chunks >= 0),
    size bigint NOT NULL CHECK (size >= 0),
    checksum bytea NOT NULL CHECK (length(checksum) = 32),
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    code_version text NOT NULL
);

-- Their content, numbered from 1. It comes before the row that it belongs to, because
-- that row says how much it is; so the reference is checked at the commit.
CREATE TABLE evstore.snapshot_chunks (
    snapshot uuid NOT NULL
        REFERENCES evstore.snapshots ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    number integer NOT NULL CHECK (number > 0),
    data bytea NOT NULL,
    PRIMARY KEY (snapshot, number)
);
-- Not compressed: it would cost more time than it saves, on both ways.
ALTER TABLE evstore.snapshot_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

-- `knows` is the newest version of these tables that an instance's program brings
-- migrations for; `projections` has those that it folds, as name:version:fingerprint.
-- Last, and not at any price: heartbeats queue behind the lock while it is waited for.
SET LOCAL lock_timeout = '2s';
ALTER TABLE evstore.instances
    ADD COLUMN knows integer NOT NULL DEFAULT 1,
    ADD COLUMN projections text[] NOT NULL DEFAULT '{}';
