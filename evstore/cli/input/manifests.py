"""Kuma's resource YAML: documents that say what a resource should be. No I/O.

The newer form has the spec under `spec`; in the older form it is all the keys that are
not `type`, `name`, `mesh` and `labels`. A manifest says all of the resource: labels that
it does not name are gone after it has been applied; only the status stays, unless given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from evstore.cli.yaml_text import Document, YamlError, parse
from evstore.errors import InvalidError
from evstore.model import Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DEFAULT_MESH: Final = "default"

# The types of Kuma and Kong Mesh that belong to no mesh (ScopeGlobal in their sources),
# and those of Kuma's releases that a store may still hold. All others belong to one.
GLOBAL_TYPES: Final = frozenset(
    {
        "AccessAudit",
        "AccessRole",
        "AccessRoleBinding",
        "Config",
        "GlobalSecret",
        "HostnameGenerator",
        "Mesh",
        "MeshInsight",
        "Zone",
        "ZoneEgress",
        "ZoneEgressInsight",
        "ZoneIngress",
        "ZoneIngressInsight",
        "ZoneInsight",
        "ZoneOverview",
    }
)

_IDENTITY: Final = ("type", "mesh", "name", "labels")
# What a server adds when it shows a resource, and ignores when it is given it back.
_SHOWN_BY_KUMA: Final = frozenset({"creationTime", "modificationTime", "kri"})
_SHOWN: Final = _SHOWN_BY_KUMA | {
    "version",
    "commit",
    "created_version",
    "created_at",
    "modified_at",
}
_KNOWN: Final = frozenset({*_IDENTITY, "spec", "status", "owner"}) | _SHOWN


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A resource as a file wants it; `origin` names the place for people.

    `owner` counts where the resource is created; the status None means: as it is.
    """

    key: Key
    spec: dict[str, Any]
    labels: dict[str, str]
    status: dict[str, Any] | None
    owner: Key | None
    origin: str


def default_mesh(type_: str) -> str:
    """Return the mesh of a resource that names none."""
    return "" if type_ in GLOBAL_TYPES else DEFAULT_MESH


def read_manifests(content: bytes, file_name: str) -> Iterator[Manifest]:
    """Yield the manifests of a file.

    Raises:
        InvalidError: names file, document and line.
    """
    try:
        for document in parse(_text(content)):
            yield _Reading(document, file_name).manifest()
    except YamlError as error:
        where = f"{file_name}: document {error.document}, line {error.line}"
        raise InvalidError(f"{where}: {error}") from None


def unique(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return the manifests if no two of them want the same resource.

    Raises:
        InvalidError: names both places.
    """
    found: dict[Key, Manifest] = {}
    for manifest in manifests:
        other = found.setdefault(manifest.key, manifest)
        if other is not manifest:
            message = f"{manifest.key} stands twice, first in {other.origin}"
            raise InvalidError(f"{manifest.origin}: {message}")
    return list(found.values())


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = b"\n" + content[: error.start]
        marked = before.lstrip().startswith(b"---")
        document = before.count(b"\n---") + (not marked)
        raise YamlError("is not UTF-8 text", before.count(b"\n"), document) from None


class _Reading:
    """One document being read; it knows where each key stands."""

    def __init__(self, document: Document, file_name: str) -> None:
        self._document = document
        self._file = file_name
        self._fields = self._object("", document.value)

    def manifest(self) -> Manifest:
        fields = self._fields
        type_, name = self._required("type"), self._required("name")
        if not type_[:1].isupper():
            raise self._fault("type", f"{type_!r} does not begin with a capital letter")
        return Manifest(
            key=Key(type=type_, mesh=self._mesh(type_), name=name),
            spec=self._spec(),
            labels=self._labels(),
            status=self._optional("status") if "spec" in fields else None,
            owner=self._owner() if "spec" in fields else None,
            origin=self._place(None),
        )

    def _spec(self) -> dict[str, Any]:
        fields = self._fields
        if "spec" not in fields:
            beside = {*_IDENTITY, *_SHOWN_BY_KUMA}
            return {name: fields[name] for name in fields if name not in beside}
        for name in fields:
            if name == "redacted":
                message = "these are gone: give them a value, and leave this list out"
                raise self._fault(name, message)
            if name not in _KNOWN:
                message = "is not known beside spec; did you mean it to be inside?"
                raise self._fault(name, message)
        return self._object("spec", fields["spec"])

    def _labels(self) -> dict[str, str]:
        labels = self._fields.get("labels")
        if labels is None:
            return {}
        for name, value in self._object("labels", labels).items():
            if not isinstance(value, str):
                message = f"the value of {name} is not text; put it in quotes"
                raise self._fault("labels", message)
        return cast("dict[str, str]", labels)

    def _mesh(self, type_: str) -> str:
        mesh = self._fields.get("mesh")
        if mesh is None:
            return default_mesh(type_)
        if not isinstance(mesh, str):
            raise self._fault("mesh", "is not text; put it in quotes")
        return mesh

    def _owner(self) -> Key | None:
        owner = self._optional("owner")
        if owner is None:
            return None
        try:
            return msgspec.convert(owner, Key)
        except msgspec.ValidationError as error:
            raise self._fault("owner", str(error)) from None

    def _optional(self, name: str) -> dict[str, Any] | None:
        value = self._fields.get(name)
        return None if value is None else self._object(name, value)

    def _required(self, name: str) -> str:
        value = self._fields.get(name)
        if value is None:
            raise self._fault(None, f"{name} is missing")
        if not isinstance(value, str):
            raise self._fault(name, "is not text; put it in quotes")
        return value

    def _object(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._fault(name or None, "is not a mapping")
        return cast("dict[str, Any]", value)

    def _fault(self, name: str | None, message: str) -> InvalidError:
        what = f"{name}: {message}" if name else message
        return InvalidError(f"{self._place(name)}: {what}")

    def _place(self, name: str | None) -> str:
        document = self._document
        line = document.key_lines.get(name or "", document.line)
        return f"{self._file}: document {document.number}, line {line}"
