"""What a resource is called: type, mesh and name."""

from __future__ import annotations

import msgspec


class Key(msgspec.Struct, frozen=True, gc=False, kw_only=True, order=True):
    """The identity of a resource.

    Global types (Mesh, Zone, ...) usually have mesh "". Inside the store a key is one
    string, `type/mesh/name`, which sorts as the three fields do.
    """

    type: str
    mesh: str = ""
    name: str

    @property
    def text(self) -> str:
        """The key as one string."""
        return f"{self.type}/{self.mesh}/{self.name}"

    @classmethod
    def from_text(cls, text: str) -> Key:
        """Return the key that `text` names."""
        type_, mesh, name = text.split("/")
        return cls(type=type_, mesh=mesh, name=name)

    def __str__(self) -> str:
        where = f" in mesh {self.mesh}" if self.mesh else ""
        return f"{self.type} {self.name}{where}"
