"""What the value of a setting may be: reading its text, checking it, and saying so.

`read` takes the text of a file or a variable, `check` a value that was given in code;
both return the value to keep, and raise a bare ValueError where it is not allowed: what
to tell the user is known one floor up, and the value may be a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from .durations import SECONDS_MAX, format_duration, parse_duration

if TYPE_CHECKING:
    import enum

_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_BARE_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_BOOLEANS: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("0", "f", "F", "false", "False", "FALSE"), False),
}


class Kind(Protocol):
    """One kind of value."""

    def allowed(self, *, written: bool) -> str:
        """Say what is allowed, in the form used in files or else in code."""
        ...

    def read(self, text: str) -> object:
        """Return the value of a text."""
        ...

    def check(self, value: object) -> object:
        """Return the value to keep for one that was given in code."""
        ...


class Text(msgspec.Struct, frozen=True):
    """Text that matches a pattern; `what` says the pattern in words."""

    pattern: str
    what: str

    def allowed(self, *, written: bool) -> str:
        """Say the pattern in words."""
        del written
        return self.what

    def read(self, text: str) -> str:
        """Return the text as it is."""
        if not re.fullmatch(self.pattern, text):
            raise ValueError
        return text

    def check(self, value: object) -> str:
        """Take strings only."""
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004  # one error for whatever is not allowed
        return self.read(value)


class Secret(msgspec.Struct, frozen=True):
    """Text, or in code also a callable that returns it when it is needed."""

    text: Text

    def allowed(self, *, written: bool) -> str:
        """Say what the text is."""
        what = self.text.allowed(written=written)
        return what if written else f"{what}, or a callable that returns it"

    def read(self, text: str) -> str:
        """Return the text as it is."""
        return self.text.read(text)

    def check(self, value: object) -> object:
        """Take strings, and callables: what they return is checked when it comes."""
        return value if callable(value) else self.text.check(value)


class Choice(msgspec.Struct, frozen=True):
    """One of the members of an enumeration, by its value."""

    options: type[enum.StrEnum]

    def allowed(self, *, written: bool) -> str:
        """List the options."""
        del written
        *others, last = self.options
        return f"{', '.join(others)} or {last}"

    def read(self, text: str) -> enum.StrEnum:
        """Return the option with this value."""
        return self.options(text)

    def check(self, value: object) -> enum.StrEnum:
        """Take an option or its value."""
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004  # one error for whatever is not allowed
        return self.options(value)


class Flag(msgspec.Struct, frozen=True):
    """True or false, in the words of Go's ParseBool."""

    def allowed(self, *, written: bool) -> str:
        """Name both values."""
        return "true or false" if written else "True or False"

    def read(self, text: str) -> bool:
        """Take the words of ParseBool only."""
        if text not in _BOOLEANS:
            raise ValueError
        return _BOOLEANS[text]

    def check(self, value: object) -> bool:
        """Take booleans only, no numbers."""
        if not isinstance(value, bool):
            raise ValueError  # noqa: TRY004  # one error for whatever is not allowed
        return value


class Whole(msgspec.Struct, frozen=True):
    """A whole number within bounds; `zero`, if given, is what 0 stands for."""

    minimum: int
    maximum: int
    zero: int | None = None

    def allowed(self, *, written: bool) -> str:
        """Name the bounds."""
        del written
        return f"a whole number from {self.minimum} to {self.maximum}"

    def read(self, text: str) -> int:
        """Take decimal digits without leading zeros."""
        if not _INTEGER.fullmatch(text):
            raise ValueError
        return self.check(int(text))

    def check(self, value: object) -> int:
        """Take integers only, no booleans."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError  # noqa: TRY004  # one error for whatever is not allowed
        if not self.minimum <= value <= self.maximum:
            raise ValueError
        return self.zero if value == 0 and self.zero is not None else value


class Span(msgspec.Struct, frozen=True):
    """A duration that is not negative, in seconds.

    `positive` refuses 0 too; `bare` takes a number without a unit for seconds; `zero`,
    if given, is what 0 stands for.
    """

    positive: bool = False
    bare: bool = False
    zero: float | None = None

    def allowed(self, *, written: bool) -> str:
        """Give examples, and the bound."""
        bound = "more than 0" if self.positive else "0 or more"
        if not written:
            return f"a number of seconds, {bound}"
        form = "a duration with its unit, such as 200ms, 5s or 1h30m"
        return f"{form}, or whole seconds" if self.bare else f"{form}, {bound}"

    def read(self, text: str) -> float:
        """Take Go's form, and bare seconds where allowed."""
        if self.bare and _BARE_SECONDS.fullmatch(text):
            return self.check(int(text))
        return self.check(parse_duration(text))

    def check(self, value: object) -> float:
        """Take seconds, whole or not."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError  # noqa: TRY004  # one error for whatever is not allowed
        if not 0 <= value <= SECONDS_MAX:
            raise ValueError
        if value == 0 and self.positive:
            raise ValueError
        return self.zero if value == 0 and self.zero is not None else float(value)


def as_text(value: object) -> str:
    """Return a value as it would be written in a file; every float is a duration."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return format_duration(value)
        case _:
            return str(value)


_CONTROL: Final = r"\x00-\x1f\x7f\ud800-\udfff"
TEXT: Final = Text(f"[^{_CONTROL}]*", "text without control characters")
NAME: Final = Text(
    f"[^{_CONTROL}]+", "text without control characters that is not empty"
)
PASSWORD: Final = Secret(
    Text(r"[^\x00\ud800-\udfff]*", "UTF-8 text without NUL characters")
)
# One colon is no address: it comes before a port.
_IPV6: Final = r"(?=[^,:]*:[^,:]*:)[0-9A-Fa-f.:]+(?:%[\w.-]+)?"
_HOST: Final = rf"(?:/[^,{_CONTROL}]*|[\w.-]+|{_IPV6})"
HOSTS: Final = Text(
    f"{_HOST}(?:,{_HOST})*",
    "a host name, an address or a socket folder that begins with /, without a port,"
    " or several of them with commas and no spaces between",
)
HOSTS_OR_NONE: Final = Text(f"(?:{HOSTS.pattern})?", f"{HOSTS.what}, or empty")
NAMESPACE: Final = Text(
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?",
    "a Kubernetes namespace: up to 63 lower-case letters, digits and hyphens",
)
