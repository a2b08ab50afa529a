"""Reading the YAML file: which settings it gives, and where in the file.

The text of a value is taken as it is written, so a password of `0123` or `yes` is
exactly that; what it means is decided by the kind of its setting. Nothing of the file's
text gets into a message, except values of settings that are no secrets.
"""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Final, TypeGuard

import msgspec
import yaml

from .catalog import IGNORED, PATH_SEPARATOR, ROOT, SETTINGS, Declaration, Ignored, Path
from .kinds import Flag
from .section import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE_BYTES_MAX: Final = 1024 * 1024
_TAG: Final = "tag:yaml.org,2002:"
_NULL: Final = f"{_TAG}null"
_BOOL: Final = f"{_TAG}bool"
_MERGE: Final = f"{_TAG}merge"
_SCALARS: Final = frozenset(
    _TAG + name
    for name in ("str", "int", "float", "bool", "timestamp", "value", "merge")
)
_TRUE_WORDS: Final = frozenset({"true", "yes", "on"})
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")
_QUOTED_CHARACTER: Final = 3
_WORD_MAX: Final = 80


class Given(msgspec.Struct, frozen=True):
    """A setting that somebody gave: the text, and where, for people to find it.

    `repr` does not show the text, which may be a password.
    """

    text: str
    label: str
    origin: str

    def __repr__(self) -> str:
        return f"Given({self.label})"


class _Branch(msgspec.Struct, frozen=True):
    """A section by its key; what is in it, by the last words in lower case."""

    key: str
    children: dict[str, _Branch | Declaration | Ignored]


def _grown() -> _Branch:
    """Return the tree of all keys."""
    root = _Branch(ROOT, {})
    leaves: tuple[Declaration | Ignored, ...] = (*SETTINGS, *IGNORED)
    for leaf in leaves:
        _, *sections, last = leaf.key.removesuffix(".*").split(PATH_SEPARATOR)
        branch = root
        for word in sections:
            below = f"{branch.key}{PATH_SEPARATOR}{word}"
            child = branch.children.setdefault(word.lower(), _Branch(below, {}))
            assert isinstance(child, _Branch), f"{below} is a setting and a section"
            branch = child
        branch.children[last.lower()] = leaf
    return root


_TREE: Final = _grown()


def read_document(
    path: str | os.PathLike[str],
) -> tuple[dict[Path, Given] | None, list[str]]:
    """Return what a file gives, and its mistakes; None if it could not be read at all."""
    reader = _Reader(os.fspath(path))
    node = reader.compose(path)
    if reader.mistakes:
        return None, reader.mistakes
    if node is not None:
        reader.read(node)
    return reader.given, reader.mistakes


class _Reader:
    """One reading of one file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.given: dict[Path, Given] = {}
        self.mistakes: list[str] = []

    def compose(self, path: str | os.PathLike[str]) -> yaml.Node | None:
        """Return the file's one document, None if it is empty or not readable."""
        text = self._text(path)
        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = ", ".join(filter(None, (error.context, error.problem)))
            self._invalid(_place(mark) if mark else "", _QUOTED.sub(_unquoted, what))
        except yaml.reader.ReaderError as error:
            self._invalid(
                _position(text[: error.position]),
                "a character that YAML does not allow",
            )
        except RecursionError:
            self._invalid("", "it is nested too deeply")
        return None

    def _text(self, path: str | os.PathLike[str]) -> str:
        try:
            with open(path, "rb") as file:  # noqa: PTH123  # pipes and descriptors too
                content = file.read(_FILE_BYTES_MAX + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.mistakes.append(f"{self._name}: cannot be read: {reason}")
            return ""
        if len(content) > _FILE_BYTES_MAX:
            self.mistakes.append(
                f"{self._name}: is longer than {_FILE_BYTES_MAX} bytes"
            )
            return ""
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start].decode("utf-8-sig")
            self.mistakes.append(f"{self._name}{_position(before)}: is not UTF-8 text")
            return ""

    def _invalid(self, place: str, problem: str) -> None:
        self.mistakes.append(f"{self._name}{place}: invalid YAML: {problem}")

    def _label(self, key: str, node: yaml.Node) -> str:
        return f"{key} ({self._name}{_place(node.start_mark)})"

    def read(self, document: yaml.Node) -> None:
        """Take in the section of the store; all others are somebody else's."""
        if not isinstance(document, yaml.MappingNode):
            if document.tag != _NULL:
                place = f"{self._name}{_place(document.start_mark)}"
                self.mistakes.append(f"{place}: is not a mapping of sections")
            return
        for key, value in self._entries(document, ""):
            if key.value.lower() == ROOT:
                self._section(_TREE, key.value, key, value)

    def _section(
        self, branch: _Branch, key: str, key_node: yaml.Node, node: yaml.Node
    ) -> None:
        if _is_null(node):
            return
        if not isinstance(node, yaml.MappingNode):
            self.mistakes.append(
                f"{self._label(key, key_node)}: must be a mapping of settings"
            )
            return
        for name, value in self._entries(node, key):
            written = f"{key}{PATH_SEPARATOR}{_word(name)}"
            match branch.children.get(name.value.lower()):
                case None:
                    self._unknown(branch, written, name)
                case _Branch() as child:
                    self._section(child, written, name, value)
                case Declaration() as declaration:
                    self._setting(declaration, written, name, value)
                case Ignored():
                    pass

    def _setting(
        self, declaration: Declaration, key: str, key_node: yaml.Node, node: yaml.Node
    ) -> None:
        if _is_null(node):
            return
        label = self._label(key, key_node)
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
            self.mistakes.append(f"{label}: must be a single plain value")
            return
        text: str = node.value
        if isinstance(declaration.field.kind, Flag) and node.tag == _BOOL:
            text = str(text.lower() in _TRUE_WORDS)
        origin = f"file {self._name}, line {key_node.start_mark.line + 1}"
        self.given[declaration.path] = Given(text, label, origin)

    def _unknown(self, branch: _Branch, key: str, key_node: yaml.ScalarNode) -> None:
        word: str = key_node.value.lower()
        close = difflib.get_close_matches(word, list(branch.children), n=1)
        hint = f"; did you mean {_key_of(branch.children[close[0]])}?" if close else ""
        self.mistakes.append(f"{self._label(key, key_node)}: unknown setting{hint}")

    def _entries(
        self, node: yaml.MappingNode, key: str
    ) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Yield the entries of a mapping, merged ones (`<<`) where it has none itself.

        A key in a section of the store counts as the same in upper and lower case.
        """
        seen: set[str] = set()
        merged: list[yaml.Node] = []
        for name, value in node.value:
            if name.tag == _MERGE:
                merged.append(value)
            elif self._is_word(name, key):
                if _same(name.value, key) in seen:
                    written = f"{key}{PATH_SEPARATOR}" if key else ""
                    label = self._label(f"{written}{_word(name)}", name)
                    self.mistakes.append(f"{label}: is given twice")
                    continue
                seen.add(_same(name.value, key))
                yield name, value
        for name, value in self._merged(merged):
            if self._is_word(name, key) and _same(name.value, key) not in seen:
                seen.add(_same(name.value, key))
                yield name, value

    def _is_word(self, name: yaml.Node, key: str) -> TypeGuard[yaml.ScalarNode]:
        if isinstance(name, yaml.ScalarNode):
            return True
        where = f" in {key}" if key else ""
        place = f"{self._name}{_place(name.start_mark)}"
        self.mistakes.append(f"{place}: a key{where} is not plain text")
        return False

    def _merged(self, nodes: list[yaml.Node]) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """Yield what merge keys bring in, earlier ones first, each mapping once."""
        waiting, done = nodes[::-1], set[int]()
        while waiting:
            node = waiting.pop()
            if id(node) in done:
                continue
            done.add(id(node))
            if isinstance(node, yaml.SequenceNode):
                waiting.extend(reversed(node.value))
            elif isinstance(node, yaml.MappingNode):
                waiting.extend(
                    value for name, value in node.value if name.tag == _MERGE
                )
                yield from (entry for entry in node.value if entry[0].tag != _MERGE)
            else:
                place = f"{self._name}{_place(node.start_mark)}"
                self.mistakes.append(f"{place}: a merge key takes mappings only")


def _key_of(known: _Branch | Declaration | Ignored) -> str:
    return known.key.removesuffix(".*")


def _unquoted(quoted: re.Match[str]) -> str:
    """Leave out what PyYAML has found in the file, but not its own terms in <>."""
    text = quoted[0]
    keep = len(text) <= _QUOTED_CHARACTER or text.startswith("'<")
    return text if keep else "..."


def _word(key: yaml.ScalarNode) -> str:
    """Return a key for a message, which has one line."""
    text = without_credentials(key.value)[:_WORD_MAX]
    return text if text.isprintable() else repr(text)[1:-1]


def _same(name: str, key: str) -> str:
    return name.lower() if key or name.lower() == ROOT else name


def _is_null(node: yaml.Node) -> bool:
    return node.tag == _NULL


def _place(mark: yaml.Mark) -> str:
    return f":{mark.line + 1}:{mark.column + 1}"


def _position(before: str) -> str:
    """Return the place of the character after this text, as a mark would have it."""
    line_start = before.rfind("\n") + 1
    return f":{before.count(chr(10)) + 1}:{len(before) - line_start + 1}"
