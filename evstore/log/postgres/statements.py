"""The statements, one `.sql` file each, read once as bytes."""

from __future__ import annotations

import re
from importlib import resources
from typing import Final, NamedTuple

_FOLDER: Final = resources.files("evstore.log.postgres") / "sql"


def _without_comments(text: str) -> str:
    lines = text.splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("--"))


def _statement(name: str) -> bytes:
    text = _without_comments((_FOLDER / f"{name}.sql").read_text())
    if "/*event*/" in text:
        event = _without_comments((_FOLDER / "event.sql").read_text())
        text = text.replace("/*event*/", event)
    return text.encode()


class Prepared(NamedTuple):
    """A statement as libpq takes it: binds by number, all in binary format."""

    name: bytes
    text: bytes
    binds: tuple[str, ...]


def prepared(name: str, statement: bytes) -> Prepared:
    """Number the binds of a statement, in the order in which they first occur."""
    binds: dict[str, int] = {}

    def numbered(found: re.Match[bytes]) -> bytes:
        return b"$%d" % binds.setdefault(found[1].decode(), len(binds) + 1)

    text = re.sub(rb"%\((\w+)\)[sb]", numbered, statement)
    return Prepared(name.encode(), text, tuple(binds))


ACTIVITY: Final = _statement("activity")
ADOPT: Final = _statement("adopt")
APPEND: Final = _statement("append")
AUDIT: Final = _statement("audit").decode()
BEAT: Final = _statement("beat")
COMMIT_OF: Final = _statement("commit_of")
ENSURE_PARTITION: Final = _statement("ensure_partition")
ENSURE_PARTITIONS: Final = _statement("ensure_partitions")
EXPIRE: Final = _statement("expire")
GRANT: Final = _statement("grant").decode()
GUARDS: Final = _statement("guards")
HEAD: Final = _statement("head")
IDENTITY: Final = _statement("identity")
INSTANCES: Final = _statement("instances")
KUMA: Final = _statement("kuma")
LATEST: Final = _statement("latest")
LOCATE: Final = _statement("locate")
PICK: Final = _statement("pick")
PLACE: Final = _statement("place")
PREVIOUS: Final = _statement("previous")
PROBE_APPEND_LOCK: Final = _statement("probe_append_lock")
PROBE_BEHIND: Final = _statement("probe_behind")
PROBE_BOUNDS: Final = _statement("probe_bounds")
PROBE_CLOCK: Final = _statement("probe_clock")
PROBE_PARTITIONS: Final = _statement("probe_partitions")
PROBE_REPLICA: Final = _statement("probe_replica")
PROBE_SERVER: Final = _statement("probe_server")
PROBE_SESSIONS: Final = _statement("probe_sessions")
PROBE_SNAPSHOTS: Final = _statement("probe_snapshots")
PROBE_STANDBYS: Final = _statement("probe_standbys")
PROBE_TABLES: Final = _statement("probe_tables")
PROBE_TABLES_THERE: Final = _statement("probe_tables_there")
PROCESS: Final = _statement("process")
READ: Final = _statement("read")
READ_BACK: Final = _statement("read_back")
READ_ON: Final = _statement("read_on")
REDACT: Final = _statement("redact")
REDACTOR: Final = _statement("redactor")
REPLAY: Final = _statement("replay").decode()
RESTORE: Final = _statement("restore")
RIGHTS: Final = _statement("rights")
RUNNING: Final = _statement("running")
SESSION: Final = _statement("session")
SESSION_READER: Final = _statement("session_reader")
SESSION_RESTORE: Final = _statement("session_restore")
SESSION_WRITER: Final = _statement("session_writer")
SETTLE: Final = _statement("settle")
SNAPSHOTS: Final = _statement("snapshots")
SNAPSHOT_BEGIN: Final = _statement("snapshot_begin")
SNAPSHOT_CHUNK: Final = _statement("snapshot_chunk")
SNAPSHOT_CHUNKS: Final = _statement("snapshot_chunks").decode()
SNAPSHOT_DROP: Final = _statement("snapshot_drop")
SNAPSHOT_KEEP: Final = _statement("snapshot_keep")
SNAPSHOT_LOCK: Final = _statement("snapshot_lock")
SNAPSHOT_PRUNE: Final = _statement("snapshot_prune")
STORAGE: Final = _statement("storage")
STORAGE_SNAPSHOTS: Final = _statement("storage_snapshots")
TURN: Final = _statement("turn")
VERSION: Final = _statement("version")
