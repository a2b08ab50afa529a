"""Is an upcaster sound?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from evstore.codec import canonical
from evstore.errors import SchemaError
from evstore.redaction import MARK
from evstore.schemas.upcasters import step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from evstore.schemas import Upcaster

_WHOLE: Final[dict[str, object]] = {"spec": None, "status": None, "labels": {}}


def check_upcaster(upcaster: Upcaster, bodies: Iterable[Mapping[str, Any]]) -> None:
    """Check an upcaster with bodies of the schema version that it takes.

    It must give the same for the same body, and take each body also where any one value
    of it was redacted, or all of them, or a whole part: a redaction for which it fails
    is refused, and where another program has made it, no store with this upcaster opens.

    Args:
        upcaster: as `evstore.upcaster` returns it.
        bodies: each with a `spec`, and perhaps with `status` and `labels`.

    Raises:
        AssertionError: it fails, gives something else each time, or what it gives is no
            body; says for which body, counted from 0, and what was redacted of it.
    """
    for number, body in enumerate(bodies):
        whole = {**_WHOLE, **body}
        for field, variant in (("", whole), *_redactions(whole)):
            gone = f" without {field}" if field else ""
            where = f"body {number}{gone}"
            first, second = (_upcast(upcaster, variant, field, where) for _ in "12")
            assert first == second, f"{where}: not the same each time"


def _upcast(
    upcaster: Upcaster, body: Mapping[str, Any], field: str, where: str
) -> bytes:
    # A copy for each: what the function does to its argument is its own business.
    copied = orjson.loads(canonical(body, "body"))
    marks = [field] if field else []
    try:
        return step(upcaster, copied, {"owner": b"null"}, marks, 0)
    except SchemaError as error:
        message = f"{where}: {error}"
        raise AssertionError(message) from error


def _redactions(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a body without each of its values, then without all, and without a part."""
    for part in ("spec", "status", "labels"):
        for path, changed in _without_one(body[part], f"/{part}"):
            yield path, {**body, part: changed}
        if body[part]:
            yield f"/{part}", {**body, part: _WHOLE[part]}
    yield "/spec/*", {part: _without_all(body[part]) for part in _WHOLE}


def _without_one(value: object, path: str) -> Iterator[tuple[str, object]]:
    for step_, item in _items(value):
        below = f"{path}/{step_}"
        yield below, _with(value, step_, MARK)
        for deeper, changed in _without_one(item, below):
            yield deeper, _with(value, step_, changed)


def _without_all(value: object) -> object:
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {name: _without_all(item) for name, item in fields.items()}
    if isinstance(value, list):
        return [_without_all(item) for item in cast("list[object]", value)]
    return value if value is None else MARK


def _items(value: object) -> list[tuple[Any, object]]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).items())
    return (
        list(enumerate(cast("list[object]", value))) if isinstance(value, list) else []
    )


def _with(value: Any, step_: Any, item: object) -> object:
    changed = value.copy()
    changed[step_] = item
    return changed
