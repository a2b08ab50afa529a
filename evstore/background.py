"""Tasks beside a body: they end with it, and its exceptions come out as they are."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup


@asynccontextmanager
async def background() -> AsyncGenerator[TaskGroup]:
    """Give a task group whose tasks are cancelled when the body ends.

    A plain task group would wrap what the body raises into an ExceptionGroup, and
    callers could not catch a `ConflictError` around the store that they opened. Only
    what a task of the group raises comes as a group: it is a fault of ours.
    """
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            yield tasks
        except BaseException as error:  # noqa: BLE001 - raised again below
            failure = error
        finally:
            tasks.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            # The frame would keep the exception alive, and the exception the frame.
            failure = None
