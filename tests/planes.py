"""Control planes of which a test makes releases: what `--app` names, in files."""

from __future__ import annotations

from contextlib import chdir
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import evstore
from evstore.cli.input.app import load_app
from evstore.schemas import Schemas
from evstore.store.opening import open_with

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from evstore import App, Config, Projection, Store

# Imported modules stay: each release is one of its own.
_numbers: Final = count(1)

_SOURCE: Final = """\
import os
import signal

import evstore
from evstore.snapshots import rebuild

rebuild.STEP_EVENTS = 4_000


class Counted(evstore.Projection[dict[str, int]]):
    name = "counted"
    version = {version}

    def initial(self):
        return {{}}

    def fold(self, state, event):
        if event.position == int(os.environ.get("STOP_AT", "0")):
            raise ValueError("not this one")
        if event.position == int(os.environ.get("SIGNAL_AT", "0")):
            os.kill(os.getpid(), signal.Signals[os.environ["SIGNAL"]])
        state[event.name] = state.get(event.name, 0) + {version}
        return state


@evstore.upcaster("Zone", from_version=1)
def zone_2(body):
    body["spec"]["shape"] = 2
    return body


def app():
    return evstore.App(projections=[Counted()], upcasters=[{upcasters}])
"""


class Plane:
    """One release of a control plane; `app` is what is given to --app.

    It counts the events of each name, each as many times as its version says. Told by
    the environment, its fold raises at the event STOP_AT, or sends the process the
    SIGNAL at the event SIGNAL_AT. A rebuild stores what it has each 4,000 events.
    """

    def __init__(
        self, folder: Path, *, version: int = 1, upcasts: bool = False
    ) -> None:
        name = f"plane_{next(_numbers)}"
        source = _SOURCE.format(version=version, upcasters="zone_2" if upcasts else "")
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
        self.app: Final = f"{name}:app"
        self._folder = folder

    def load(self) -> App:
        """Import it into this process."""
        with chdir(self._folder):
            return load_app(self.app)

    @property
    def counted(self) -> type[Projection[Any]]:
        """The class of its projection."""
        (projection,) = self.load().projections
        return type(projection)

    @property
    def fingerprint(self) -> str:
        """That of its upcasters."""
        return Schemas((), self.load().upcasters).fingerprint

    def open(self, config: Config) -> AbstractAsyncContextManager[Store]:
        """Open the store as this release does."""
        app = self.load()
        return evstore.open(
            config, upcasters=app.upcasters, projections=app.projections
        )


async def fill(config: Config, events: int, *, batch: int = 500) -> None:
    """Append creations, in transactions: of zones that are named by what was before."""
    async with open_with(config, Schemas()) as store:
        begin, end = store.position, store.position + events
        for first in range(begin, end, batch):
            async with store.transaction() as tx:
                for number in range(first, min(first + batch, end)):
                    tx.create("Zone", f"z-{number}", spec={"n": number})
