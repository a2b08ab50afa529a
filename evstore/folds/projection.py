"""What a projection of one's own is: a name, a version, a beginning and a fold.

`definition_of` is the only place that judges one: what it lets through can be folded,
frozen and restored.
"""

from __future__ import annotations

import inspect
import re
import sys
from abc import ABC, abstractmethod
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    TypeGuard,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from evstore.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evstore.model import Event

BUILT_IN: Final = "resources"
NAME: Final = re.compile(r"[a-z0-9-]{1,63}")

State = TypeVar("State")


class Projection(ABC, Generic[State]):
    """A state of one's own, folded from the log and kept in memory.

        class ServicesByTag(evstore.Projection[dict[str, list[str]]]):
            name = "services-by-tag"

            def initial(self):
                return {}

            def fold(self, state, event):
                ...
                return state

    An instance is given to `evstore.open(..., projections=[...])` and read with
    `Store.view`. The state is of the type in the brackets: any that msgspec can encode
    and decode back, with texts as keys of dicts. It may be changed in place.

    `fold` must be deterministic: what it returns may depend on the state and the event,
    and on nothing else: no clock, no randomness, no I/O, no attributes that change, no
    order of a dict or a set, for a restored state has another.
    `evstore.testing.check_projection` looks for that.
    """

    name: ClassVar[str]
    """Unique among the projections of a store: a-z, 0-9 and -, at most 63."""

    version: ClassVar[int] = 1
    """To be raised whenever `initial`, `fold` or the type of the state changes."""

    @abstractmethod
    def initial(self) -> State:
        """Return the state before the first event."""

    @abstractmethod
    def fold(self, state: State, event: Event) -> State:
        """Return what `event` makes of `state`.

        It is called once for each event of the log, in order: also for deletions and
        redactions, whose spec is None. Each projection gets an `Event` of its own. If
        it raises, the projection stops there, and nothing else does.
        """


class Definition:
    """A projection that was found good: how its states are frozen and restored."""

    __slots__ = ("_beginning", "_decode", "never_none", "projection", "state_name")

    def __init__(
        self, projection: Projection[Any], state_type: Any, beginning: Any
    ) -> None:
        self.projection = projection
        self.state_name = _name_of(state_type)
        self._decode = msgspec.msgpack.Decoder(state_type).decode
        self.never_none = not self._takes(_NONE)
        self._beginning = self.freeze(beginning)

    def _takes(self, payload: bytes) -> bool:
        try:
            self._decode(payload)
        except msgspec.DecodeError:
            return False
        return True

    def beginning(self) -> Any:
        """Return the state before the first event, as it is when it was restored.

        What `initial` returned is never handed on: it may be shared, and changed.
        """
        return self._decode(self._beginning)

    def freeze(self, state: Any) -> bytes:
        """Return the bytes of a state: the same for equal states.

        Raises:
            TypeError, ValueError: it is no state of the declared type.
        """
        payload = _encode(state)
        if _encode(self._decode(payload)) != payload:
            message = "what is decoded from the state is another one"
            raise ValueError(message)
        return payload

    def thaw(self, payload: bytes) -> Any:
        """Return the state that was frozen.

        Raises:
            msgspec.DecodeError: the bytes are of no state of the declared type.
        """
        return self._decode(payload)


_NONE: Final = msgspec.msgpack.encode(None)
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def definitions_of(
    projections: Iterable[Projection[Any] | Definition],
) -> list[Definition]:
    """Check the projections of a store, those that have not been checked yet.

    Raises:
        InvalidError: one cannot be used, or two have one name.
    """
    definitions: list[Definition] = []
    names: dict[str, type[Any]] = {}
    for projection in projections:
        definition = (
            projection
            if isinstance(projection, Definition)
            else definition_of(projection)
        )
        of = type(definition.projection)
        name = of.name
        if of in names.values():
            message = f"{of.__qualname__} is given twice"
            raise InvalidError(message, path=_PATH)
        if name in names:
            message = f"two are named {name!r}; give each a name of its own"
            raise InvalidError(message, path=_PATH)
        names[name] = of
        definitions.append(definition)
    return definitions


_PATH: Final = "projections"


def definition_of(projection: object) -> Definition:
    """Check a projection, and make its first state.

    Raises:
        InvalidError: it cannot be used; the message says what to do.
    """
    if isinstance(projection, type):
        message = f"{projection.__name__} is a class; give an instance of it"
        raise InvalidError(message, path=_PATH)
    if not _is_projection(projection):
        message = f"{type(projection).__name__} is no evstore.Projection"
        raise InvalidError(message, path=_PATH)
    return _define(projection)


def _is_projection(value: object) -> TypeGuard[Projection[Any]]:
    return isinstance(value, Projection)


def _define(projection: Projection[Any]) -> Definition:
    of = type(projection)
    _check_label(of)
    if inspect.iscoroutinefunction(projection.fold):
        message = f"{of.__qualname__}.fold is asynchronous; a fold must not wait"
        raise InvalidError(message, path=_PATH)
    state_type = _state_type(of)
    if state_type is None:
        message = (
            "say what its state is, in the brackets: "
            f"class {of.__qualname__}(evstore.Projection[dict[str, int]])"
        )
        raise InvalidError(message, path=_PATH)
    _check_state_type(state_type, of.__qualname__)
    try:
        return Definition(projection, state_type, projection.initial())
    except Exception as error:
        message = (
            f"{of.__qualname__}.initial() must return a state that msgspec can encode "
            f"and decode back as {_name_of(state_type)}: {describe(error)}"
        )
        raise InvalidError(message, path=_PATH) from error


def _check_label(of: type[Projection[Any]]) -> None:
    name: object = getattr(of, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name) or name == BUILT_IN:
        message = (
            f"{of.__qualname__}.name must be 1 to 63 of a-z, 0-9 and -, and not "
            f"{BUILT_IN!r}; it is {name!r}"
        )
        raise InvalidError(message, path=_PATH)
    version: object = getattr(of, "version", None)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        message = (
            f"{of.__qualname__}.version must be a whole number from 1 on, "
            f"not {version!r}"
        )
        raise InvalidError(message, path=_PATH)


def _check_state_type(state_type: Any, title: str) -> None:
    try:
        msgspec.msgpack.Decoder(state_type)
        flaw = _flaw_of(msgspec.inspect.type_info(state_type), set())
    except Exception as error:
        message = (
            f"msgspec cannot decode the state of {title}, "
            f"{_name_of(state_type)}: {describe(error)}"
        )
        raise InvalidError(message, path=_PATH) from error
    if flaw:
        message = f"the state of {title}, {_name_of(state_type)}, {flaw}"
        raise InvalidError(message, path=_PATH)


def _flaw_of(found: object, seen: set[int]) -> str:
    """Return what keeps states of a type from being frozen or restored; "" if nothing."""
    if id(found) in seen:
        return ""
    seen.add(id(found))
    inner: list[object] = []
    match found:
        case msgspec.inspect.DictType() if not isinstance(found.key_type, _TEXTS):
            # Those have no order that would always be the same.
            return "has a dict whose keys are not texts; make texts of them"
        case msgspec.inspect.CustomType():
            return f"has a {_name_of(found.cls)}, which msgspec cannot decode"
        case msgspec.Struct():
            inner = [getattr(found, field) for field in found.__struct_fields__]
        case tuple():
            inner = [*cast("Iterable[object]", found)]
        case _:
            pass
    return next(filter(None, (_flaw_of(each, seen) for each in inner)), "")


_TEXTS: Final = (
    msgspec.inspect.AnyType,
    msgspec.inspect.EnumType,
    msgspec.inspect.LiteralType,
    msgspec.inspect.StrType,
)


def describe(error: BaseException) -> str:
    """Return what went wrong, in one line that is not too long."""
    text = " ".join(str(error).split())
    if len(text) > _CAUSE_CHARACTERS_MAX:
        text = f"{text[:_CAUSE_CHARACTERS_MAX]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_CAUSE_CHARACTERS_MAX: Final = 300


def _name_of(state_type: Any) -> str:
    if isinstance(state_type, type) and get_origin(state_type) is None:
        return state_type.__qualname__
    return str(state_type).replace("typing.", "")


def _state_type(of: type[Any]) -> Any:
    """Return what stands in the brackets of `Projection[...]`; None where nothing does.

    Also where a base is generic itself, and where the type is written as a text.
    """
    found = _argument(of)
    if isinstance(found, TypeVar) or _variables(found):
        return None
    return found


def _argument(of: type[Any]) -> Any:
    bases = vars(of).get("__orig_bases__", of.__bases__)
    for base in bases:
        origin = get_origin(base) or base
        if origin is Projection:
            given = get_args(base)
            return _evaluated(given[0], of) if given else None
        if isinstance(origin, type) and issubclass(origin, Projection):
            values = dict(zip(_variables(origin), get_args(base), strict=False))
            return _filled(_argument(cast("type[Any]", origin)), values)
    return None


def _filled(state_type: Any, values: dict[Any, Any]) -> Any:
    """Return a type with other types in the places of its variables."""
    if isinstance(state_type, TypeVar):
        return values.get(state_type, state_type)
    variables = _variables(state_type)
    if not variables:
        return state_type
    return state_type[tuple(values.get(each, each) for each in variables)]


def _variables(of: Any) -> tuple[Any, ...]:
    found: tuple[Any, ...] = getattr(of, "__parameters__", ())
    return found


def _evaluated(state_type: Any, of: type[Any]) -> Any:
    """Return a type with the names in it looked up where the class is defined."""

    class Holder:
        state: Any

    Holder.__annotations__ = {"state": state_type}
    names = vars(sys.modules[of.__module__])
    try:
        return get_type_hints(Holder, names, {}, include_extras=True)["state"]
    except NameError:
        # msgspec says then that it does not know the type.
        return state_type
