"""What an embedding control plane brings besides its configuration, in one value.

The `evstore` command finds it by `--app package.module:factory`, so that it works with
the same types, upcasters and projections as the control plane itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class App(msgspec.Struct, frozen=True, kw_only=True):
    """What `open` takes beside the configuration, for commands to take as well.

    `types`, `upcasters` and `projections` are what `open` takes under these names. A
    control plane has one function that returns it, passes the parts on to `open`, and
    tells commands the function's name: `--app package.module:factory`.
    """

    types: Sequence[type[Any]] = ()
    upcasters: Sequence[Any] = ()
    projections: Sequence[Any] = ()
