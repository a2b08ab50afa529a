"""`evstore log`, `history` and `blame` of a log that was compacted: what there is."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest

import evstore
from evstore import maintenance
from evstore.cli.main import app
from kube.compacting import compactor_config, in_environment, make_old

if TYPE_CHECKING:
    from collections.abc import Callable

    from apiserver import ApiServer
    from evstore.config import Config

    Told = tuple[str, list[str]]

A = evstore.Key(type="Mesh", mesh="", name="a")
NOTE = "note: the log was compacted: what happened up to position 4 is gone"
GONE = (
    "error: the log was compacted: of what happened up to position 4, "
    "only the state there is left"
)


@pytest.fixture
def config(
    apiserver: ApiServer, kubernetes_config: Config, monkeypatch: pytest.MonkeyPatch
) -> Config:
    """Return the configuration of a log whose floor is 4, and whose head is 7.

    `a` was changed below the floor and above it, `c` was created below it, `b` below it
    and deleted above it.
    """
    make_old(monkeypatch)
    config = compactor_config(apiserver, kubernetes_config)
    in_environment(config, monkeypatch)
    anyio.run(written, config)
    return config


async def written(config: Config) -> None:
    async with evstore.open(config) as store:
        for name in "ac":
            await store.create("Mesh", name, spec={"n": 0, "old": 0}, actor="alice")
        await store.update(A, spec={"n": 1, "old": 0}, actor="bob")
        await store.create("Mesh", "b", spec={})
        await store.update(A, spec={"n": 2, "old": 0}, actor="carol")
        await store.delete("Mesh", "b")
        spec = {"n": 2, "old": 0, "new": 1}
        await store.update(A, spec=spec, actor="dave", reason="wanted")
    assert (await maintenance.compact(config, keep_events=3)).floor == 4


@pytest.fixture
def told(config: Config, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Return what runs a command here, and gives what it prints and what it says."""
    del config

    def run(*words: str) -> Told:
        with suppress(SystemExit):
            app(list(words), standalone_mode=False)
        found = capsys.readouterr()
        return found.out, found.err.splitlines()

    return run


def positions(text: str) -> list[int]:
    """Return the positions of documents, or of the rows of a table."""
    if text.startswith("{"):
        return [json.loads(line)["position"] for line in text.splitlines()]
    firsts = [line.split()[0] for line in text.splitlines() if line[:1].strip()]
    return [int(first) for first in firsts[1:]]


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_log_shows_what_there_is_and_says_what_is_gone(
    told: Callable[..., Told], form: str
) -> None:
    out, said = told("log", "-o", form)
    assert (positions(out), said) == ([5, 6, 7], [NOTE])
    out, said = told("log", "--diff", "--reverse", "-o", form)
    assert (positions(out), said) == ([7, 6, 5], [NOTE])
    out, said = told("log", "--limit", "5", "--until", "6", "-o", form)
    assert (positions(out), said) == ([5, 6], [NOTE])


def test_where_nothing_is_missing_the_log_says_nothing(
    told: Callable[..., Told],
) -> None:
    for words in (("--limit", "3"), ("--since", "5"), ("--after", "4")):
        out, said = told("log", *words)
        assert (positions(out), said) == ([5, 6, 7], [])


def test_who_asks_for_what_is_gone_gets_an_error(told: Callable[..., Told]) -> None:
    for words in (
        ("log", "--since", "4"),
        ("log", "--after", "0"),
        ("log", "--until", "4"),
        ("log", "--since", "2020-01-01"),
        ("history", "Mesh", "a", "--since", "1"),
        ("history", "Mesh", "a", "--until", "3"),
        ("blame", "Mesh", "a", "--at", "3"),
        ("diff", "3"),
        ("at", "3", "list", "Mesh"),
    ):
        assert told(*words) == ("", [GONE])


def test_history_says_what_there_was_before(told: Callable[..., Told]) -> None:
    out, said = told("history", "Mesh", "a")
    assert positions(out) == [5, 7]
    assert "~spec.n: 1 -> 2" in out
    assert said == [f"{NOTE}; the resource was at version 3 then"]
    out, said = told("history", "Mesh", "a", "--limit", "1", "-o", "json")
    assert (positions(out), said) == ([7], [])
    out, said = told("history", "Mesh", "c", "-o", "json")
    assert (out, said) == ("", [f"{NOTE}; the resource was at version 2 then"])
    out, said = told("history", "Mesh", "c")
    assert (out, said[0]) == ("", "there are no such versions")
    _, said = told("history", "Mesh", "never")
    (error,) = said
    assert error.endswith("never existed at or after position 4; the log was compacted")


def test_blame_says_of_a_value_that_it_may_be_older(told: Callable[..., Told]) -> None:
    out, said = told("blame", "Mesh", "a")
    rows = [line.split() for line in out.splitlines()]
    assert [(row[0], row[-2:]) for row in rows[1:]] == [
        ("5", ["spec.n", "2"]),
        ("7", ["1", "wanted"]),
        ("<=3", ["spec.old", "0"]),
    ]
    assert "bob" not in out
    assert said == [f"{NOTE}; <= is the change at that position, or one before it"]
    out, said = told("blame", "Mesh", "a", "-o", "json")
    found = {each["path"]: each for each in map(json.loads, out.splitlines())}
    assert found["/spec/n"]["actor"] == "carol"
    assert not found["/spec/n"]["or_before"]
    assert found["/spec/old"] == {
        "path": "/spec/old",
        "value": 0,
        "position": 3,
        "recorded_at": None,
        "actor": None,
        "reason": None,
        "or_before": True,
    }


def test_blame_is_sure_of_what_was_created_below_the_floor(
    told: Callable[..., Told],
) -> None:
    out, said = told("blame", "Mesh", "c")
    assert (positions(out), said) == ([2, 2], [])
    assert out.count("alice") == 2


def test_a_resource_is_found_in_its_mesh_by_what_is_left_of_it(
    config: Config, told: Callable[..., Told]
) -> None:
    async def add() -> None:
        async with evstore.open(config) as store:
            await store.create("Dataplane", "web", mesh="one", spec={"n": 1})
            await store.create("Mesh", "d", spec={})
        assert (await maintenance.compact(config, keep_events=1)).floor == 8

    anyio.run(add)
    out, said = told("blame", "Dataplane", "web")
    assert (positions(out), said) == ([8], [])
    _, said = told("history", "Dataplane", "web")
    assert "was at version 8" in said[-1]


async def test_a_store_says_where_its_history_begins(config: Config) -> None:
    async with evstore.open(config) as store:
        assert store.floor == 4
        found = [each.position async for each in store.events(after=store.floor)]
        assert found == [5, 6, 7]
        old, new = (await store.blame("Mesh", "a", at=4)).leaves
        assert (old.event.position, old.or_before, new.or_before) == (3, True, True)


def test_an_export_of_what_is_gone_writes_nothing(told: Callable[..., Told]) -> None:
    out, (said,) = told("export")
    assert out == ""
    assert said.endswith("the log was compacted: export it since position 5")
    out, _ = told("export", "--since", "5")
    assert len(out.splitlines()) == 4
