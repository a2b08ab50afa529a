"""The error tree: the only place where evstore's exceptions are defined.

    StoreError
    ├── NotFoundError          there is no such resource
    ├── AlreadyExistsError     there is one already
    ├── ConflictError          it is not at the expected version
    ├── InvalidError           this input can never succeed
    ├── CompactedError         that part of the history has been removed
    ├── DivergedError          the log is not the one that was followed
    ├── SchemaError            database or event are not at a version that we know
    ├── ConfigError            a setting is wrong
    └── UnavailableError       the log cannot be reached now; nothing was applied
        └── OutcomeUnknownError    the log was lost while appending; it may be applied

The docstring of each class is the advice to the caller, and the message where none is
given. `retryable` says whether the same call may be made again as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .keys import Key


class StoreError(Exception):
    """An operation of the store failed."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "") -> None:
        advice = type(self).__doc__ or type(self).__name__
        super().__init__(message or advice.splitlines()[0])


class NotFoundError(StoreError):
    """There is no such resource; check type, mesh and name.

    Also raised for an owner that is missing, or was deleted and created again since.
    """

    def __init__(self, message: str = "", *, key: Key | None = None) -> None:
        super().__init__(message or (f"{key} not found" if key else ""))
        self.key = key


class AlreadyExistsError(StoreError):
    """The resource exists already; get it and update it instead.

    `version` is the current one, None where the same transaction makes it twice.
    """

    def __init__(
        self, message: str = "", *, key: Key | None = None, version: int | None = None
    ) -> None:
        if not message and key is not None:
            at = (
                "made in this transaction"
                if version is None
                else f"at version {version}"
            )
            message = f"{key} already exists, {at}"
        super().__init__(message)
        self.key = key
        self.version = version


class ConflictError(StoreError):
    """The resource is not at the expected version; get it again and decide anew.

    `expected` is the version that the caller gave, `actual` the current one, None
    where the resource does not exist. Under a reused request id both are None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        key: Key | None = None,
        expected: int | None = None,
        actual: int | None = None,
    ) -> None:
        if not message and key is not None:
            now = (
                "it does not exist" if actual is None else f"it is at version {actual}"
            )
            message = f"{key} is not at version {expected}: {now}"
        super().__init__(message)
        self.key = key
        self.expected = expected
        self.actual = actual


class InvalidError(StoreError):
    """The input is wrong and can never succeed as it is; the message names the place."""

    def __init__(self, message: str = "", *, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class CompactedError(StoreError):
    """That part of the history has been removed; start from `oldest` or later."""

    def __init__(self, message: str = "", *, oldest: int = 0) -> None:
        super().__init__(message or f"the history begins at position {oldest}")
        self.oldest = oldest


class DivergedError(StoreError):
    """The log is not the one that was followed: another log, or one that lost its end.

    What was read after the common part may never have happened. List again and follow
    from the position of that listing.
    """


class SchemaError(StoreError):
    """The database, or an event in it, is in no shape that this program knows.

    `position` is that of the event that cannot be read: it is newer than the program,
    an upcaster failed for it, or a projection of one's own has stopped at it. None where
    it is about the database, or about a write.
    """

    def __init__(self, message: str = "", *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class ConfigError(StoreError):
    """A setting is wrong; the message names its key and what is allowed."""


class UnavailableError(StoreError):
    """The log cannot be reached now; nothing was applied; try again later."""

    retryable: ClassVar[bool] = True


class OutcomeUnknownError(UnavailableError):
    """The log was lost while the command was being appended: it may be applied or not.

    Make the same call again with the same `request_id`: it returns the original result
    if the command was applied, and applies it if it was not. Without a request id of
    the caller's own, read the resource before trying again.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", *, request_id: str | None = None) -> None:
        super().__init__(
            message
            or "the log was lost while the command was being appended"
            + (f" (request id {request_id})" if request_id else "")
        )
        self.request_id = request_id
