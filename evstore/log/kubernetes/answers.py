"""What the API server answers: statuses, their explanations, and no answer at all."""

from __future__ import annotations

from typing import Final

import msgspec

from evstore.errors import UnavailableError

OK: Final = range(200, 300)
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
GONE: Final = 410
TOO_LARGE: Final = 413
UNPROCESSABLE: Final = 422
TOO_MANY: Final = 429


class LostError(UnavailableError):
    """No answer came: what was asked for may have been done, now or in a moment."""


class GoneError(Exception):
    """The server has forgotten the moment that was asked for; it said where to go on."""

    def __init__(self, token: str) -> None:
        super().__init__("the server has forgotten that moment")
        self.token = token


class _ListMeta(msgspec.Struct, rename={"token": "continue"}):
    token: str = ""


class _Details(msgspec.Struct):
    name: str = ""


class Status(msgspec.Struct):
    """What the API server says when it does not do what was asked."""

    message: str = ""
    reason: str = ""
    code: int = 0
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    details: _Details | None = None


class Answer(msgspec.Struct, frozen=True):
    """A status and the bytes that came with it."""

    status: int
    body: bytes
    url: str
    method: str

    @property
    def ok(self) -> bool:
        """Whether what was asked for was done."""
        return self.status in OK

    def lacks(self, name: str) -> bool:
        """Whether the API server says that there is no object of this name.

        Not every 404 does: there may be no such kind, or no API server.
        """
        if self.status != NOT_FOUND:
            return False
        details = self.explanation().details
        return details is not None and details.name == name

    def explanation(self) -> Status:
        """Return the Status that the body holds, if it is one."""
        try:
            return _decode_status(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            text = self.body[:200].decode(errors="replace").strip()
            return Status(message=text or f"status {self.status}")


_decode_status: Final = msgspec.json.Decoder(Status).decode
