"""What verifying says of a log in a cluster that somebody has laid hands on."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any

import pytest

import evstore
from command import Command
from evstore import maintenance
from evstore.errors import StoreError
from evstore.log.kubernetes import objects
from evstore.proof.diagnosis import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from apiserver import ApiServer
    from evstore.config import Config

_HEX = "0" * 64


class Hand:
    """Changes what is stored, as an administrator could."""

    def __init__(self, server: ApiServer, config: Config) -> None:
        self._server = server
        self._namespace = config.kubernetes.system_namespace

    def path(self, plural: str, name: str = "") -> str:
        whole = f"{objects.collection(self._namespace, plural)}/{name}"
        return whole.removesuffix("/")

    def delete(self, plural: str, name: str) -> None:
        status, told = self._server.request("DELETE", self.path(plural, name))
        assert status == 200, told

    def edit(self, position: int, /, **fields: Any) -> None:
        path = self.path(objects.CHANGES, objects.name_of(position))
        _, change = self._server.request("GET", path)
        whole = change["spec"] | fields
        change["spec"] = {key: each for key, each in whole.items() if each is not None}
        status, told = self._server.request("PUT", path, change)
        assert status == 200, told

    def chunk(self) -> str:
        _, found = self._server.request("GET", self.path(objects.CHUNKS))
        name: str = found["items"][0]["metadata"]["name"]
        return name


@pytest.fixture
def hand(apiserver: ApiServer, config: Config) -> Hand:
    return Hand(apiserver, config)


@pytest.fixture
async def filled(config: Config) -> Config:
    """Return the configuration of a log of five changes."""
    async with evstore.open(config) as store:
        for name in "abcde":
            await store.create("Zone", name, spec={"name": name}, actor="alice")
    return config


async def test_a_log_that_nobody_touched_holds(filled: Config) -> None:
    found = await maintenance.verify(filled)
    assert (found.ok, found.head, found.unguarded) == (True, 5, [])
    async with evstore.open(filled) as store:
        whole = await store.verify()
        assert (whole.hash, whole.log) == (found.hash, found.log)


async def test_a_change_that_was_deleted_in_the_middle_is_found(
    hand: Hand, filled: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """Its store opens, as one whose end was lost; what lies behind is told."""
    hand.delete(objects.CHANGES, objects.name_of(3))
    (finding,) = (await maintenance.verify(filled)).findings
    assert (finding.kind, finding.position, finding.last) == (Kind.REMOVED, 3, 3)
    caplog.set_level(logging.WARNING)
    async with evstore.open(filled) as store:
        assert store.position == 2
    assert (
        f"change {4:020} is behind a gap, and so no part of the log: event 3 has been "
        'lost or deleted; "evstore verify" tells more'
    ) in caplog.text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payload", "[3,3]\n"),
        ("payload", None),
        ("encoding", "zstd"),
        ("actor", "mallory"),
        ("time", "2020-01-01T00:00:00+00:00"),
        ("first", 2),
        ("position", 9),
        ("events", 2),
        ("hash", _HEX),
        ("after", _HEX),
        ("chunks", [{"name": "gone", "digest": _HEX}]),
    ],
)
async def test_an_edit_by_hand_is_found_where_it_was_made(
    hand: Hand, filled: Config, field: str, value: Any
) -> None:
    hand.edit(3, **{field: value})
    (finding,) = (await maintenance.verify(filled)).findings
    assert (finding.kind, finding.position) == (Kind.CHANGED, 3)


async def test_a_chunk_that_is_gone_is_found(
    hand: Hand, config: Config, tmp_path: Path
) -> None:
    async with evstore.open(config) as store:
        await store.create("Zone", "small", spec={})
        noise = random.Random(1).randbytes(500_000).hex()
        await store.create("Zone", "large", spec={"noise": noise})
    hand.delete(objects.CHUNKS, hand.chunk())
    with pytest.raises(StoreError, match=r'"evstore verify" tells more'):
        async with evstore.open(config):
            pass
    told = Command(config, tmp_path).process("verify")
    assert told.code == 1
    assert told.err.startswith("error: position 2 was changed")


async def test_a_change_of_another_log_is_found(hand: Hand, filled: Config) -> None:
    hand.edit(5, log="00000000-0000-4000-8000-000000000000", payload=None)
    (finding,) = (await maintenance.verify(filled)).findings
    assert (finding.kind, finding.position) == (Kind.CHANGED, 5)


async def test_the_identity_is_that_of_the_changes(hand: Hand, filled: Config) -> None:
    """The object that says so may be deleted, and is made anew with another."""
    before = await maintenance.verify(filled)
    hand.delete(objects.LOGS, objects.IDENTITY)
    after = await maintenance.verify(filled)
    assert (after.ok, after.log) == (True, before.log)


async def test_redactions_are_told_as_by_the_store(filled: Config) -> None:
    async with evstore.open(filled) as store:
        await store.redact("Zone", "b", version=2, fields=["/spec/name"], reason="x")
        whole = await store.verify()
    found = await maintenance.verify(filled)
    assert found.redactions == whole.redactions
    assert [each.position for each in found.redactions] == [2]


async def test_a_namespace_without_a_log_holds(config: Config) -> None:
    found = await maintenance.verify(config)
    assert (found.ok, found.head) == (True, 0)
