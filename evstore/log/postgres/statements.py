"""The statements, one `.sql` file each, read once as bytes."""

from __future__ import annotations

from importlib import resources
from typing import Final

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


APPEND: Final = _statement("append")
BEAT: Final = _statement("beat")
ENSURE_PARTITION: Final = _statement("ensure_partition")
HEAD: Final = _statement("head")
IDENTITY: Final = _statement("identity")
INSTANCES: Final = _statement("instances")
LATEST: Final = _statement("latest")
LOCATE: Final = _statement("locate")
PLACE: Final = _statement("place")
READ: Final = _statement("read")
READ_BACK: Final = _statement("read_back")
READ_ON: Final = _statement("read_on")
REPLAY: Final = _statement("replay").decode()
SESSION: Final = _statement("session")
SESSION_READER: Final = _statement("session_reader")
SESSION_WRITER: Final = _statement("session_writer")
SETTLE: Final = _statement("settle")
TURN: Final = _statement("turn")
VERSION: Final = _statement("version")
