"""What a probe finds, or why it does not: none of them hides what others find."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import anyio

from evstore.doctor.facts import Unknown
from evstore.errors import StoreError
from evstore.log.failures import UnreadableError
from evstore.log.kubernetes.answers import GoneError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_T = TypeVar("_T")
_NOT_READY: Final = " is not ready"
# What the API server says who may not do what, without where that is said.
_REFUSAL: Final = re.compile(r'(User "[^"]*" cannot .*?)(?:\. "evstore|$)')


async def known(probe: Callable[[], Awaitable[_T]]) -> _T | Unknown:
    """Return what a probe finds, or why the server would not tell."""
    try:
        return await probe()
    except (StoreError, GoneError, UnreadableError) as error:
        return Unknown(briefly(str(error)))


async def nothing() -> None:
    """Find nothing: there is nothing to look for."""


class Finding(Generic[_T]):
    """What a probe finds; `found` is there once it was looked for."""

    found: _T | Unknown

    def __init__(self, probe: Callable[[], Awaitable[_T]]) -> None:
        self._probe = probe

    async def look(self) -> None:
        """Look for it."""
        self.found = await known(self._probe)


async def look_for(*findings: Finding[Any]) -> None:
    """Look for all beside each other: where a server is stuck, they are stuck at once."""
    async with anyio.create_task_group() as tasks:
        for each in findings:
            tasks.start_soon(each.look)


def briefly(message: str) -> str:
    """Return a message without what other lines say: the setting, the path, the roles."""
    if _NOT_READY in message:
        return message.partition(_NOT_READY)[0] + _NOT_READY
    refusal = _REFUSAL.search(message)
    return refusal[1] if refusal else message.removeprefix("store.kubernetes: ")
