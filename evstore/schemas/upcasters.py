"""Upcasters: what a body of one schema version is in the next, and what can go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from evstore.codec import canonical
from evstore.errors import InvalidError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PARTS: Final = ("labels", "spec", "status")


@dataclass(frozen=True, eq=False)
class Upcaster:
    """A function that makes a body of schema version n one of n+1; see `upcaster`."""

    type: str
    from_version: int
    revision: int
    function: Callable[[dict[str, Any]], dict[str, Any]]

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body in the next schema version."""
        return self.function(body)

    def __str__(self) -> str:
        return f"the upcaster of {self.type} from schema version {self.from_version}"


def upcaster(
    type: str,  # noqa: A002
    *,
    from_version: int,
    revision: int = 1,
) -> Callable[[Callable[[dict[str, Any]], dict[str, Any]]], Upcaster]:
    """Make a function the upcaster of a type, from a schema version to the next.

    It takes a body, a dict with the keys `spec`, `status` and `labels`, and returns the
    body in the next version; the owner is not its business. It gets a copy of its own.
    It must be pure: no clock, no chance, no I/O, nothing kept from call to call. Where
    something was redacted, it finds `[redacted]` in place of a value; in place of a
    whole spec or status None, of all labels {}. `evstore.testing.check_upcaster` tries
    all that.

    Nothing is registered: give the result to `open(..., upcasters=[...])`, which checks
    it.

    Args:
        type: name of the resource type.
        from_version: the schema version that it takes.
        revision: of the function. States that were folded by another one are not taken
            over from snapshots. A change of the function itself, of what it calls in its
            own package and of constants is found without it; raise it where it depends
            on anything else, such as a library.
    """
    return lambda function: Upcaster(type, from_version, revision, function)


def step(
    link: Upcaster,
    body: dict[str, Any],
    fixed: dict[str, bytes],
    gone: Sequence[str],
    position: int,
) -> bytes:
    """Return what an upcaster makes of a body, as canonical JSON.

    Raises:
        SchemaError: it fails, or that is no body. What is in the body stays out of the
            message, and so does the message of what it raised, which may quote it.
    """
    why = ""
    text = b""
    try:
        made = link(body)
    except Exception as error:  # noqa: BLE001 - whatever it is, its caller is told
        why = f"raised {type(error).__name__}{_place(error)}"
    else:
        try:
            text = _encoded(made, fixed, gone)
        except InvalidError as error:
            why = f"returned no body: {error}"
    if not why:
        return text
    message = f"{link} failed for the event at position {position}: it {why}"
    if gone:
        message += f"; of that body {', '.join(gone)} was redacted"
    # Outside of the handlers: a traceback would show what was raised.
    raise SchemaError(message, position=position)


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    code = trace.tb_frame.f_code
    return f" in {code.co_name}, line {trace.tb_lineno} of {code.co_filename}"


def _encoded(made: object, fixed: dict[str, bytes], gone: Sequence[str]) -> bytes:
    """Return a body as canonical JSON, with its owner and its list of marks.

    Raises:
        InvalidError: it is no body.
    """
    if not isinstance(made, dict):
        raise InvalidError(f"a {type(made).__name__}, not a dict")
    body = cast("dict[object, object]", made)
    if set(body) != set(_PARTS):
        message = "its keys must be labels, spec and status"
        missing = [part for part in _PARTS if part not in body]
        unknown = len(body) + len(missing) - len(_PARTS)
        message += f"; {', '.join(missing)} missing" if missing else ""
        message += f"; there are {unknown} others" if unknown else ""
        raise InvalidError(message)
    spec, status, labels = (body[part] for part in ("spec", "status", "labels"))
    if not (isinstance(spec, dict) or (spec is None and "/spec" in gone)):
        raise InvalidError(f"a {type(spec).__name__}, not a dict", path="spec")
    if not (status is None or isinstance(status, dict)):
        raise InvalidError(f"a {type(status).__name__}, not a dict", path="status")
    if not isinstance(labels, dict) or not all(
        isinstance(value, str)
        for value in cast("dict[object, object]", labels).values()
    ):
        raise InvalidError("not a dict of strings", path="labels")
    parts = {part: canonical(body[part], part) for part in _PARTS} | fixed
    return b"{%b}" % b",".join(
        b'"%b":%b' % (name.encode(), parts[name]) for name in sorted(parts)
    )
