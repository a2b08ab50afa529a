"""A history of years, imported: the state, a restart and a replay give the same bytes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from evstore.cli.importer import Importer, Report
from evstore.cli.input.files import opened
from evstore.cli.replay import rebuild, state_lines

if TYPE_CHECKING:
    from integration.conftest import Backend

_DATA: Final = Path(__file__).parents[1] / "data"
_SHARED: Final = Path(__file__).parents[3] / "shared" / "data"


class History(NamedTuple):
    """A history and the state that must come of it."""

    path: Path
    final: bytes

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in gzip.open(self.path)]


def _sample() -> History:
    return History(
        _DATA / "history.jsonl.gz", (_DATA / "history.final.jsonl").read_bytes()
    )


@pytest.fixture(params=["sample", "kuma"])
def history(request: pytest.FixtureRequest) -> History:
    """Return the sample, and six years of Kuma's own resources where they are there."""
    if request.param == "sample":
        return _sample()
    path = _SHARED / "kuma-history.jsonl.gz"
    if not path.exists():
        pytest.skip("the history of Kuma's resources is not on this machine")
    final = gzip.decompress((_SHARED / "kuma-history.final.jsonl.gz").read_bytes())
    return History(path, final)


async def import_into(backend: Backend, history: History) -> Report:
    report = Report()
    with opened(str(history.path)) as (source, _):
        async with backend.open() as store:
            await Importer(store, report, restamp=False, actor="").run(source.lines())
    return report


async def test_state_restart_and_replay_are_the_final_state_to_the_byte(
    backend: Backend, history: History
) -> None:
    report = await import_into(backend, history)
    assert report.applied == report.lines == len(history.lines)

    async with backend.open() as store:  # a restart: the state comes from the log
        live = b"".join(state_lines(store._resources))
        replayed = (await rebuild(store._log, None)).projections.resources

        assert live == history.final
        assert b"".join(state_lines(replayed)) == history.final
        assert replayed.digest() == store.digest()


async def test_actor_reason_and_time_are_kept(
    backend: Backend, history: History
) -> None:
    await import_into(backend, history)
    async with backend.open() as store:
        found = [
            (event.recorded_at.timestamp(), event.actor, event.reason)
            async for event in store.events()
            if event.position == event.commit
        ]
    expected = [(each["time"], each["actor"], each["reason"]) for each in history.lines]
    # One update of the sample changes nothing, and leaves nothing.
    assert [each for each in expected if each[2] != "nothing changes"] == found


async def test_importing_again_adds_nothing(backend: Backend, history: History) -> None:
    first = await import_into(backend, history)
    again = await import_into(backend, history)
    assert (again.applied, again.skipped) == (0, first.lines)
    assert again.position == first.position
