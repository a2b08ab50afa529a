"""YAML as evstore reads and writes it: JSON in another spelling.

What is read is JSON's values only, by the rules that Kuma's own files are written for
(YAML 1.1 words such as `yes` are booleans), but for what surprises: dates and times of
day stay text, a key that stands twice is an error, as are NaN and infinities. What is
written is read back as the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml

from evstore.codec import DEPTH_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yaml import SafeDumper as _SafeDumper, SafeLoader as _Loader
else:
    # PyYAML may be built without libyaml, which is ten times faster.
    _SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    _Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

VALUES_MAX: Final = 10_000_000
_TAG: Final = "tag:yaml.org,2002:"
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **{
        form: word in {"true", "yes", "on"}
        for word in ("true", "yes", "on", "false", "no", "off")
        for form in (word, word.capitalize(), word.upper())
    },
}
_INTEGER: Final = re.compile(
    r"[-+]?(?:0b[01_]*[01]|0o?[0-7_]*[0-7]|0x[0-9a-fA-F_]*[0-9a-fA-F]"
    r"|0|[1-9](?:[0-9_]*[0-9])?)"
)
_FLOAT: Final = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
)
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_BASES: Final = {"0b": 2, "0o": 8, "0x": 16}


class YamlError(Exception):
    """A text is not YAML, or holds what JSON cannot.

    `line` and `document` count from 1.
    """

    def __init__(self, message: str, line: int, document: int = 1) -> None:
        super().__init__(message)
        self.line = line
        self.document = document


class Document(msgspec.Struct, frozen=True):
    """A document: its value, its place among the documents, and where it begins.

    `key_lines` has the line of each key of a document that is a mapping.
    """

    value: Any
    number: int
    line: int
    key_lines: dict[str, int]


def parse(text: str) -> Iterator[Document]:
    """Yield the documents of a text that are not empty.

    Raises:
        YamlError: the text is wrong from here on; what was yielded before is right.
    """
    reading = _Reading(text)
    try:
        yield from reading.documents()
    except YamlError as error:
        error.document = reading.number
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(filter(None, (error.context, error.problem)))
        message = f"invalid YAML: {what}"
        raise YamlError(message, _line(mark), reading.number) from None
    except yaml.reader.ReaderError as error:
        before = text.encode(errors="replace")[: error.position]
        line = before.count(b"\n") + 1
        message = "a character that YAML does not allow"
        raise YamlError(message, line, reading.number) from None


def _line(mark: yaml.Mark | None) -> int:
    return int(mark.line) + 1 if mark else 1


class _Anchored(msgspec.Struct, frozen=True):
    """A value that aliases may repeat, and how many values it has in all."""

    value: Any
    count: int


class _Reading:
    """A text being turned into values, from libyaml's events.

    Not from PyYAML's nodes: its fast composer ends the process at some ten thousand
    levels, and cannot be told of a limit.
    """

    def __init__(self, text: str) -> None:
        self.number = 1
        self._text = text
        self._events: Iterator[Any] = iter(())
        self._anchors: dict[str, _Anchored | None] = {}
        self._count = 0
        self._key_lines: dict[str, int] = {}

    def documents(self) -> Iterator[Document]:
        """Yield each document that is not empty."""
        self._events = iter(yaml.parse(self._text, Loader=_Loader))
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors, self._count, self._key_lines = {}, 0, {}
                root = next(self._events)
                value = self._value(root, 0)
                if value is not None:
                    line = _line(root.start_mark)
                    yield Document(value, self.number, line, self._key_lines)
            elif isinstance(event, yaml.DocumentEndEvent):
                self.number += 1

    def _value(self, event: Any, depth: int) -> Any:
        line = _line(event.start_mark)
        if depth > DEPTH_MAX + 1:
            raise YamlError(f"nested more than {DEPTH_MAX} levels deep", line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._count
        self._add(1, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        match event:
            case yaml.MappingStartEvent():
                _expect(event, "map")
                value: Any = self._mapping(depth)
            case yaml.SequenceStartEvent():
                _expect(event, "seq")
                value = self._sequence(depth)
            case _:
                value = _scalar(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, self._count - before)
        return value

    def _add(self, count: int, line: int) -> None:
        # Aliases count as often as they stand: JSON has none, and repeats the value.
        self._count += count
        if self._count > VALUES_MAX:
            raise YamlError(f"has more than {VALUES_MAX:,} values", line)

    def _alias(self, event: Any) -> Any:
        line = _line(event.start_mark)
        found = self._anchors.get(event.anchor)
        if found is None:
            known = event.anchor in self._anchors
            what = "is used inside itself" if known else "is not defined"
            raise YamlError(f"the anchor {event.anchor!r} {what}", line)
        self._add(found.count, line)
        return found.value

    def _sequence(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: list[Any] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line(event.start_mark)
            if _is_merge(event):
                value = self._value(next(self._events), depth + 1)
                merged += value if isinstance(value, list) else [value]
                if not all(isinstance(each, dict) for each in merged):
                    raise YamlError("<< takes mappings only", line)
                continue
            key = _key(event, line)
            if key in own:
                raise YamlError(f"the key {key!r} stands twice", line)
            if depth == 0:
                self._key_lines[key] = line
            own[key] = self._value(next(self._events), depth + 1)
        if not merged:
            return own
        base: dict[str, Any] = {}
        for each in reversed(merged):
            base |= each
        return base | own


def _expect(event: Any, kind: str) -> None:
    if event.tag not in {None, "!", _TAG + kind}:
        message = f"the tag {event.tag} is not allowed"
        raise YamlError(message, _line(event.start_mark))


def _is_merge(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and (
        event.value == "<<" and event.implicit[0]
    )


def _key(event: Any, line: int) -> str:
    """Return a key as it is written: `8080` and `yes` are texts there, as in JSON."""
    if not isinstance(event, yaml.ScalarEvent):
        raise YamlError("a key is not plain text", line)
    return str(event.value)


def _scalar(event: Any) -> Any:
    text = str(event.value)
    if event.tag in {"!", f"{_TAG}str"} or (event.tag is None and event.implicit[1]):
        return text
    line = _line(event.start_mark)
    try:
        value = resolve(text)
    except ValueError as error:
        raise YamlError(str(error), line) from None
    if event.tag not in {None, *(_TAG + name for name in _TAGS_OF[type(value)])}:
        # Without the value: it may be a secret.
        raise YamlError(f"the value does not fit the tag {event.tag}", line)
    return value


_TAGS_OF: Final[dict[type, tuple[str, ...]]] = {
    type(None): ("null",),
    bool: ("bool",),
    int: ("int", "float"),
    float: ("float",),
    str: (),
}


def resolve(text: str) -> Any:
    """Return the value of a plain scalar.

    Raises:
        ValueError: it is a number that JSON has not.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
        if value in {float("inf"), float("-inf")}:
            message = f"{text} is too large for a number"
            raise ValueError(message)
        return value
    if _NOT_FINITE.fullmatch(text):
        message = f"{text} is not a JSON number"
        raise ValueError(message)
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-").replace("_", "")
    sign = -1 if text.startswith("-") else 1
    if digits[:2] in _BASES:
        return sign * int(digits[2:], _BASES[digits[:2]])
    if digits.startswith("0"):
        return sign * int(digits, 8)  # as YAML 1.1 and Kuma have it
    return sign * int(digits)


class _Dumper(_SafeDumper):
    """Writes texts over several lines as blocks, and quotes what we would misread."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _represent_text(_: _Dumper, text: str) -> yaml.ScalarNode:
    style = None
    if "\n" in text:
        style = "|"
    elif not _is_text(text):
        style = "'"
    return yaml.ScalarNode(f"{_TAG}str", text, style=style)


def _is_text(text: str) -> bool:
    try:
        return isinstance(resolve(text), str) and text != "<<"
    except ValueError:
        return False


_Dumper.add_representer(str, _represent_text)


def dump(value: dict[str, Any]) -> str:
    """Return a value as YAML that `parse` reads back as the same."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=10_000_000,
    )
    return text
