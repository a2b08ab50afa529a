"""Putting the settings together: defaults, then the file, then the environment."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from evstore.errors import ConfigError

from .catalog import BY_PATH, PASSWORD, PASSWORD_FILE, SETTINGS, Path
from .document import Given, read_document
from .kinds import as_text
from .section import MASK, Section, broken, field_of, refusal
from .shapes import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PREFIX: Final = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
_LAST_NEWLINE: Final = re.compile(r"\r?\n\Z")
_PASSWORD_BYTES_MAX: Final = 64 * 1024
_SectionT = TypeVar("_SectionT", bound=Section)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A setting in effect: its key in YAML, its value as text, and who gave it.

    `origin` is `default`, `file NAME, line N` or `environment NAME`.
    """

    key: str
    value: str
    origin: str


class _Loaded(msgspec.Struct, frozen=True):
    config: Config
    given: dict[Path, Given]


def load_config(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    prefix: str = "KUMA",
) -> Config:
    """Return the settings: defaults, under those of a file, under the environment's.

    A control plane that embeds the store may give its variables another prefix than
    Kuma's. `environ` is that of the process if none is given.

    Raises:
        ConfigError: one line for each mistake, with the setting as the user wrote it.
    """
    loaded = _load(path, environ, prefix)
    del environ  # its variables are secrets, and tracebacks may show a frame's
    return _checked(loaded).config


def describe(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    prefix: str = "KUMA",
) -> list[Setting]:
    """Return every setting that `load_config` would return, with its origin.

    Secrets are masked.

    Raises:
        ConfigError: as `load_config`.
    """
    loaded = _load(path, environ, prefix)
    del environ
    return list(_described(_checked(loaded)))


def _load(
    path: str | os.PathLike[str] | None,
    environ: Mapping[str, str] | None,
    prefix: str,
) -> _Loaded | list[str]:
    if not _PREFIX.fullmatch(prefix):
        return [f"prefix {prefix!r} is not upper-case words joined by underscores"]
    return _Loading(path, prefix).load(os.environ if environ is None else environ)


def _checked(loaded: _Loaded | list[str]) -> _Loaded:
    """Raise the mistakes, away from the frames that hold what was read."""
    if isinstance(loaded, list):
        raise ConfigError("\n".join(loaded))
    return loaded


class _Loading:
    """One loading: what was given, what it means, and what is wrong with it."""

    def __init__(self, path: str | os.PathLike[str] | None, prefix: str) -> None:
        self._path = path
        self._prefix = prefix
        self._given: dict[Path, Given] = {}
        self._values: dict[Path, object] = {}
        self._failed: set[Path] = set()
        self._mistakes: list[str] = []

    def load(self, environ: Mapping[str, str]) -> _Loaded | list[str]:
        """Return the settings, or the mistakes."""
        if self._path is not None:
            given, self._mistakes = read_document(self._path)
            if given is None:
                return self._mistakes
            self._given = given
        self._given.update(self._from_environment(environ))
        for path, found in self._given.items():
            self._read(path, found)
        self._take_password()
        self._check_rules(Config, ())
        return self._mistakes or _Loaded(_built(Config, (), self._values), self._given)

    def _from_environment(
        self, environ: Mapping[str, str]
    ) -> Iterator[tuple[Path, Given]]:
        """Yield what the environment gives; there an empty value is none.

        Names that only look like ours are let be: Kubernetes makes such variables
        from the names of services.
        """
        for declaration in SETTINGS:
            name = declaration.variable(self._prefix)
            text = environ.get(name)
            if text or (text is not None and declaration.path == PASSWORD):
                yield declaration.path, Given(text, name, f"environment {name}")

    def _read(self, path: Path, given: Given) -> None:
        field = BY_PATH[path].field
        try:
            self._values[path] = field.kind.read(given.text)
        except ValueError:
            self._fail(path, refusal(given.text, field, written=True))

    def _fail(self, path: Path, problem: str) -> None:
        self._failed.add(path)
        self._mistakes.append(f"{self._given[path].label}: {problem}")

    def _take_password(self) -> None:
        """Read the password's file if there is one."""
        name = self._values.pop(PASSWORD_FILE, "")
        if not name:
            return
        if PASSWORD in self._given:
            self._fail(
                PASSWORD_FILE,
                f"{self._given[PASSWORD].label} is given too; give one of them",
            )
            return
        try:
            text = _password_in(str(name))
            field = BY_PATH[PASSWORD].field
            self._values[PASSWORD] = field.kind.read(text)
        except OSError as error:
            self._fail(PASSWORD_FILE, f"{name!r} cannot be read: {error.strerror}")
        except ValueError:
            allowed = BY_PATH[PASSWORD].field.kind.allowed(written=True)
            self._fail(
                PASSWORD_FILE,
                f"{name!r} does not hold {allowed}, {_PASSWORD_BYTES_MAX} bytes at most",
            )

    def _check_rules(self, section: type[Section], path: Path) -> dict[str, object]:
        """Check a section and those within; return its values by their names."""
        values: dict[str, object] = {}
        for info in msgspec.structs.fields(section):
            here = (*path, info.name)
            if field_of(info.type) is None:
                within = self._check_rules(info.type, here)
                values |= {f"{info.name}.{name}": within[name] for name in within}
            elif here not in self._failed:
                values[info.name] = self._values.get(here, info.default)
        self._mistakes += broken(
            section.RULES,
            values,
            lambda name: self._name_of((*path, *name.split("."))),
        )
        return values

    def _name_of(self, path: Path) -> str:
        if path in self._given:
            return self._given[path].label
        declaration = BY_PATH[path]
        return f"{declaration.key} (or {declaration.variable(self._prefix)})"


def _password_in(name: str) -> str:
    with open(name, "rb") as file:  # noqa: PTH123  # pipes and descriptors too
        content = file.read(_PASSWORD_BYTES_MAX + 1)
    if len(content) > _PASSWORD_BYTES_MAX:
        raise ValueError
    return _LAST_NEWLINE.sub("", content.decode())


def _built(
    section: type[_SectionT], path: Path, values: Mapping[Path, object]
) -> _SectionT:
    fields: dict[str, object] = {}
    for info in msgspec.structs.fields(section):
        here = (*path, info.name)
        if field_of(info.type) is None:
            fields[info.name] = _built(info.type, here, values)
        elif here in values:
            fields[info.name] = values[here]
    return section(**fields)


def _described(loaded: _Loaded) -> Iterator[Setting]:
    for declaration in SETTINGS:
        path, given = declaration.path, loaded.given.get(declaration.path)
        if path == PASSWORD_FILE:
            value = given.text if given else ""
        else:
            value = as_text(_value_at(loaded.config, path))
        if path == PASSWORD and given is None:
            given = loaded.given.get(PASSWORD_FILE)
        yield Setting(
            key=declaration.key,
            value=MASK if declaration.field.secret else value,
            origin=given.origin if given else "default",
        )


def _value_at(section: object, path: Path) -> object:
    for name in path:
        section = getattr(section, name)
    return section
