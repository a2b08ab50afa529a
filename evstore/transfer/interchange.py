"""The format of `evstore import`: one transaction a line, as JSON. No I/O but reading.

A line is `{"time": seconds since 1970, "actor", "reason", "changes": [{"op", "type",
"mesh", "name", "spec", "labels", "status", "owner"}]}` with `op` create, update or
delete. What `evstore.export` writes has more; see there.
"""

from __future__ import annotations

import enum
import math
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import msgspec

from evstore.codec import decode_json
from evstore.errors import InvalidError
from evstore.model import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from types import UnionType

REQUEST_PREFIX: Final = "import:"
LINE_BYTES_MAX: Final = 256 * 1024 * 1024  # four times what a transaction may have
_PLACE: Final = re.compile(r": line 1 column (\d+) \(char \d+\)$")
_SECOND: Final = 1_000_000
_SECONDS_MAX: Final = 253_402_300_799  # the end of the year 9999


class Operation(enum.StrEnum):
    """What a change of an import does."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Change(msgspec.Struct, frozen=True):
    """A change of a line; labels None and a status that is unset stay as they are.

    `schema_version` is the shape of what is given; None where the line does not say.
    """

    operation: Operation
    key: Key
    spec: dict[str, Any]
    labels: dict[str, str] | None
    status: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    owner: Key | None = None
    schema_version: int | None = None


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """A line, decoded; `time` in microseconds, None where the line has none."""

    time: int | None
    actor: str | None
    reason: str
    changes: list[Change]


class Line(msgspec.Struct, frozen=True):
    """A line as it was read."""

    number: int
    content: bytes

    @property
    def request_id(self) -> str:
        """The id under which the line's transaction is known in the log."""
        digest = sha256(self.content).hexdigest()[:32]
        return f"{REQUEST_PREFIX}{self.number}:{digest}"

    def decode(self) -> Transaction:
        """Return what the line says.

        Raises:
            InvalidError: it is not a transaction; names the place in it.
        """
        try:
            text = self.content.decode()
        except UnicodeDecodeError as error:
            raise InvalidError(f"is not UTF-8 text (byte {error.start + 1})") from None
        try:
            return _transaction(decode_json(text, ""))
        except InvalidError as error:
            # The decoder counts lines of its own, of which this is always the first.
            message = _PLACE.sub(r" at column \1", str(error))
            raise InvalidError(message) from None


def read_lines(readline: Callable[[int], bytes]) -> Iterator[Line]:
    """Yield the lines of a file that are not blank.

    Raises:
        InvalidError: a line is too long.
    """
    number = 0
    while raw := readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(raw) > LINE_BYTES_MAX:
            message = f"line {number}: is longer than {LINE_BYTES_MAX:,} bytes"
            raise InvalidError(message)
        content = raw.strip(b" \t\r\n")
        if content:
            yield Line(number, content)


class Remaining:
    """The lines of a file that are not in the log yet.

    A line is in the log if its request id is. A line of updates that changed nothing
    left no trace there; it has been imported where a later line has been.
    """

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self.skipped = 0

    def of(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Yield the lines that are to be applied, in order.

        Raises:
            InvalidError: a line is in the log although one before it is not: the file
                is not the one that was imported.
        """
        held: list[Line] = []
        resumed: Line | None = None
        for line in lines:
            if line.request_id in self._known:
                if resumed is not None:
                    raise _changed(line, resumed)
                self.skipped += 1 + len(held)
                held.clear()
            elif resumed is not None:
                yield line
            else:
                held.append(line)
                if not self._known or not _may_leave_no_trace(line):
                    resumed = held[0]
                    yield from held
                    held.clear()
        yield from held


def _may_leave_no_trace(line: Line) -> bool:
    try:
        changes = line.decode().changes
    except InvalidError:
        return False
    # An exported transaction that has nothing to be made again has no changes.
    return all(each.operation is Operation.UPDATE for each in changes)


def _changed(line: Line, missing: Line) -> InvalidError:
    message = f"is in the log already, but line {missing.number} before it was not"
    return InvalidError(
        f"line {line.number}: {message}; the file has changed since it was imported"
    )


class _Fields:
    """The members of an object, taken one by one; what is left over is unknown."""

    def __init__(self, value: Any, path: str) -> None:
        self.path = path
        if not isinstance(value, dict):
            self.refuse("", "is not an object")
        self._left: dict[str, Any] = dict(cast("dict[str, Any]", value))

    def take(
        self, name: str, kind: type | UnionType, words: str, default: Any = ...
    ) -> Any:
        value = self._left.pop(name, default)
        if value is ...:
            self.refuse(name, "is missing")
        if value is not default and not isinstance(value, kind):
            self.refuse(name, f"is not {words}")
        return value

    def done(self) -> None:
        for name in self._left:
            self.refuse(name, "is not a member of the format")

    def refuse(self, name: str, message: str) -> NoReturn:
        path = ".".join(filter(None, (self.path, name)))
        raise InvalidError(message, path=path)


def _transaction(value: Any) -> Transaction:
    fields = _Fields(value, "")
    time = fields.take("time", int | float, "a number", None)
    actor = fields.take("actor", str, "text", None)
    reason = fields.take("reason", str, "text", "")
    changes = fields.take("changes", list, "a list")
    fields.done()
    if not changes:
        fields.refuse("changes", "is empty")
    return Transaction(
        time=None if time is None else _microseconds(time, fields),
        actor=actor,
        reason=reason,
        changes=[_change(each, index) for index, each in enumerate(changes)],
    )


def _microseconds(time: float, fields: _Fields) -> int:
    if isinstance(time, bool) or not math.isfinite(time):
        fields.refuse("time", "is not a number")
    if not 0 <= time <= _SECONDS_MAX:
        fields.refuse("time", f"{time} is not in seconds since 1970")
    return time * _SECOND if isinstance(time, int) else round(time * _SECOND)


def _change(value: Any, index: int) -> Change:
    fields = _Fields(value, f"changes[{index}]")
    word = fields.take("op", str, "text")
    if word not in set(Operation):
        fields.refuse("op", f"{word!r} is not create, update or delete")
    operation = Operation(word)
    key = Key(
        type=fields.take("type", str, "text"),
        mesh=fields.take("mesh", str, "text", ""),
        name=fields.take("name", str, "text"),
    )
    if operation is Operation.DELETE:
        fields.done()
        return Change(operation, key, {}, None)
    change = Change(
        operation,
        key,
        spec=fields.take("spec", dict, "an object"),
        labels=fields.take("labels", dict, "an object", None),
        status=fields.take("status", dict | None, "an object", msgspec.UNSET),
        owner=_owner(fields, operation),
    )
    fields.done()
    return change


def _owner(fields: _Fields, operation: Operation) -> Key | None:
    if operation is not Operation.CREATE:
        return None
    value = fields.take("owner", dict | None, "an object", None)
    if value is None:
        return None
    owner = _Fields(value, f"{fields.path}.owner")
    key = Key(
        type=owner.take("type", str, "text"),
        mesh=owner.take("mesh", str, "text", ""),
        name=owner.take("name", str, "text"),
    )
    owner.done()
    return key
