"""What can be seen of every store, without a word on what it means.

A fact that a server would not tell is `Unknown`; None stands for what there is nothing to
tell of.
"""

from __future__ import annotations

import msgspec


class Unknown(msgspec.Struct, frozen=True):
    """The server did not tell, and why."""

    reason: str


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """By how much the server's clock is ahead of this machine's, and how surely."""

    seconds_ahead: float
    seconds_error: float


class Snapshots(msgspec.Struct, frozen=True, kw_only=True):
    """Snapshots of the state, `own`, and those of anything that lead nowhere.

    `foreign` ones are not of this log, or of an end that it has lost, `compacted` ones of
    a place below its floor. `position` is that of the newest of the state, None where
    there is none, and `seconds` how long ago it was taken. Where instances run, it is the
    newest that one of them can start from. `begin` is where a start without one begins.
    """

    head: int
    own: int
    foreign: int
    position: int | None
    seconds: float | None
    compacted: int = 0
    begin: int = 0
