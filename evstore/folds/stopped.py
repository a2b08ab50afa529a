"""Where a projection of one's own has stopped, and how that is kept for the next start."""

from __future__ import annotations

from typing import Final

import msgspec

from evstore.model import Head

# MessagePack never uses this byte: no state begins with it.
_SIGN: Final = b"\xc1"


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """Where a projection has stopped, and why.

    `position` is that of the event that its fold could not take.
    """

    position: int
    cause: str


class ProjectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a projection of one's own stands.

    `position` is the last one that it has folded; `stopped` says where and why it has
    stopped, None where it runs; `tainted`, whether it has no state just now, because
    something was redacted and it is folded again.
    """

    name: str
    version: int
    position: int
    stopped: Stopped | None = None
    tainted: bool = False


def is_accident(error: BaseException | None) -> bool:
    """Whether what was raised need not have been the doing of fold and event."""
    return isinstance(error, MemoryError) or not isinstance(error, Exception | None)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Stopped, Head]).decode


def freeze_stop(stopped: Stopped, head: Head) -> bytes:
    """Return bytes that say where one has stopped, and up to where it had folded."""
    return _SIGN + _encode((stopped, head))


def is_stop(payload: bytes) -> bool:
    """Whether bytes are of a projection that has stopped, and of no state."""
    return payload.startswith(_SIGN)


def thaw_stop(payload: bytes) -> tuple[Stopped, Head]:
    """Return what `freeze_stop` was given.

    Raises:
        msgspec.DecodeError: the bytes are not its.
    """
    return _decode(payload[len(_SIGN) :])
