"""How a setting is declared, and the sections that check themselves.

A setting is declared once, as an annotated field of a section. Its name in YAML and in
the environment, its default, its kind and its meaning all come from that one line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, get_origin

import msgspec

from evstore.errors import ConfigError

from .kinds import Kind, as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MASK: Final = "***"
_SHOWN_MAX: Final = 80
_PASSWORD: Final = re.compile(
    r"(?P<word>pass(?:word|wd)?\s*[\s:=]).+", re.IGNORECASE | re.DOTALL
)
_CREDENTIALS: Final = re.compile(r"^(?P<scheme>\w+://)?.*@", re.DOTALL)


class Field(msgspec.Struct, frozen=True):
    """What a section's field says about itself.

    `yaml` is its name in files where that is not the camelCase of the field's name.
    """

    kind: Kind
    meaning: str
    yaml: str = ""
    secret: bool = False


class Together(msgspec.Struct, frozen=True):
    """Either both settings are given or neither is."""

    first: str
    second: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that must be right before this can be checked."""
        return (self.first, self.second)

    def mistake(
        self, values: Mapping[str, object], name: Callable[[str], str]
    ) -> str | None:
        """Return what is wrong, in the words by which the user knows the settings."""
        if bool(values[self.first]) == bool(values[self.second]):
            return None
        given, missing = self.fields if values[self.first] else self.fields[::-1]
        return f"{name(given)}: needs {name(missing)} too"


class NotAbove(msgspec.Struct, frozen=True):
    """One number is not greater than another."""

    smaller: str
    larger: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that must be right before this can be checked."""
        return (self.smaller, self.larger)

    def mistake(
        self, values: Mapping[str, Any], name: Callable[[str], str]
    ) -> str | None:
        """Return what is wrong, in the words by which the user knows the settings."""
        smaller, larger = values[self.smaller], values[self.larger]
        if smaller <= larger:
            return None
        return (
            f"{name(self.smaller)}: {as_text(smaller)} is more than"
            f" {as_text(larger)}, the value of {name(self.larger)}"
        )


class Needed(msgspec.Struct, frozen=True):
    """A setting must be given where another one has one of these values."""

    field: str
    switch: str
    values: frozenset[str]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that must be right before this can be checked."""
        return (self.field, self.switch)

    def mistake(
        self, values: Mapping[str, object], name: Callable[[str], str]
    ) -> str | None:
        """Return what is wrong, in the words by which the user knows the settings."""
        if values[self.field] or values[self.switch] not in self.values:
            return None
        switch = as_text(values[self.switch])
        return f"{name(self.switch)}: {switch} needs {name(self.field)} too"


class OverNetwork(msgspec.Struct, frozen=True):
    """A switch is off where a host is a socket folder."""

    host: str
    switch: str
    off: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that must be right before this can be checked."""
        return (self.host, self.switch)

    def mistake(
        self, values: Mapping[str, object], name: Callable[[str], str]
    ) -> str | None:
        """Return what is wrong, in the words by which the user knows the settings."""
        folder = any(host.startswith("/") for host in str(values[self.host]).split(","))
        if not folder or values[self.switch] == self.off:
            return None
        return (
            f"{name(self.switch)}: {as_text(values[self.switch])} is impossible through"
            f" a socket folder, which is in {name(self.host)};"
            f" {as_text(self.off)} is allowed there"
        )


Rule = Together | NotAbove | Needed | OverNetwork


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A group of settings, checked wherever it is made.

    A rule names a field of a section within by a path with a dot, such as `tls.mode`.
    """

    RULES: ClassVar[tuple[Rule, ...]] = ()

    def __post_init__(self) -> None:
        # Nothing is raised below here: the frames there hold secrets, and some
        # reporters of tracebacks print the variables of every frame.
        if mistakes := _settle(self):
            raise ConfigError("\n".join(mistakes))


def field_of(annotation: object) -> Field | None:
    """Return what a setting's annotation declares; None for that of a section."""
    if get_origin(annotation) is not Annotated:
        return None
    declared = getattr(annotation, "__metadata__", ())
    return next(field for field in declared if isinstance(field, Field))


def broken(
    rules: Iterable[Rule], values: Mapping[str, object], name: Callable[[str], str]
) -> list[str]:
    """Return the mistakes by those rules whose fields all have a value."""
    checked = (rule for rule in rules if all(field in values for field in rule.fields))
    found = (rule.mistake(values, name) for rule in checked)
    return [mistake for mistake in found if mistake is not None]


def refusal(value: object, field: Field, *, written: bool) -> str:
    """Say that a value is not allowed and what is, without ever showing a secret."""
    shown = "the value" if field.secret else _shown(value)
    return f"{shown} is not {field.kind.allowed(written=written)}"


def without_credentials(text: str) -> str:
    """Return a text for a message, without what may be a password in a wrong place.

    People put whole addresses and connection strings where one part of them belongs.
    """
    text = _PASSWORD.sub(rf"\g<word>{MASK}", text)
    return _CREDENTIALS.sub(rf"\g<scheme>{MASK}@", text)


def _shown(value: object) -> str:
    shown = without_credentials(value) if isinstance(value, str) else value
    text = repr(shown)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."


def _settle(section: Section) -> list[str]:
    """Put the values to keep in place of those given; return what is wrong."""
    owner = type(section).__name__
    values: dict[str, object] = {}
    mistakes: list[str] = []
    for info in msgspec.structs.fields(section):
        value: object = getattr(section, info.name)
        field = field_of(info.type)
        if field is None:
            if isinstance(value, Section) and isinstance(value, info.type):
                within = msgspec.structs.asdict(value)
                values |= {f"{info.name}.{name}": within[name] for name in within}
            else:
                mistakes.append(f"{owner}.{info.name}: not a {info.type.__name__}")
            continue
        try:
            values[info.name] = field.kind.check(value)
        except ValueError:
            wrong = refusal(value, field, written=False)
            mistakes.append(f"{owner}.{info.name}: {wrong}")
        else:
            msgspec.structs.force_setattr(section, info.name, values[info.name])
    rules = type(section).RULES
    return mistakes + broken(rules, values, lambda name: f"{owner}.{name}")
