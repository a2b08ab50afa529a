"""Snapshots that are damaged, half written, or too late: never handed out as whole."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from events import History, creations, key
from evstore.errors import UnavailableError
from evstore.log import Stamp
from kube.interference import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from apiserver import ApiServer
    from evstore.config import Config
    from evstore.log import Log, Snapshot
    from evstore.model import Head
    from kube.interference import Interference


async def saved(log: Log, place: Head) -> Snapshot | None:
    async def chunks() -> AsyncGenerator[bytes]:
        for each in (b"one", b"two", b"three"):
            yield each

    stamp = Stamp(
        log=log.identity,
        projection="resources",
        version=1,
        fingerprint="",
        head=place,
        digest=b"",
    )
    return await log.save_snapshot(stamp, chunks(), code_version="1")


@pytest.fixture
async def place(log: Log, history: History) -> Head:
    await log.append(creations(history, "a"), after=log.genesis)
    return history.head


def pieces_of(server: ApiServer, config: Config) -> list[dict[str, Any]]:
    namespace = config.kubernetes.system_namespace
    path = f"/apis/evstore.dev/v1/namespaces/{namespace}/snapshotchunks"
    _, found = server.request("GET", path)
    for each in found["items"]:
        each["path"] = f"{path}/{each['metadata']['name']}"
    items: list[dict[str, Any]] = found["items"]
    return items


@pytest.mark.parametrize("payload", ["A", "b25l"], ids=["no base64", "another"])
async def test_what_is_damaged_is_not_whole(
    apiserver: ApiServer, config: Config, log: Log, place: Head, payload: str
) -> None:
    snapshot = await saved(log, place)
    assert snapshot is not None
    for piece in pieces_of(apiserver, config):
        path = piece.pop("path")
        if piece["spec"]["payload"] == payload:
            piece["spec"]["payload"] = "dHdv"
        else:
            piece["spec"]["payload"] = payload
        assert apiserver.request("PUT", path, piece)[0] == 200
    read = [chunk async for chunk in log.load_snapshot(snapshot)]
    assert sha256(b"".join(read)).digest() != snapshot.checksum


async def test_one_without_its_object_is_not_there(
    apiserver: ApiServer, config: Config, log: Log, way: Interference, place: Head
) -> None:
    """That comes last: what was stored before it counts for nothing."""
    way.plan("POST", "/snapshots", Fault.CUT_BEFORE)
    with pytest.raises(UnavailableError):
        await saved(log, place)
    assert len(pieces_of(apiserver, config)) == 3
    assert await log.snapshots() == []
    assert await saved(log, place) is not None


async def test_what_is_redacted_while_one_appears_is_not_kept_in_it(
    log: Log, other: Log, history: History, place: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who redacts drops what is there, and sees nothing of one that is on its way."""
    snapshots = log._snapshots  # type: ignore[attr-defined]
    publish = snapshots._publish

    async def late(*args: Any) -> None:
        announcement = history.redaction(key("a"))
        await other.append(announcement, after=place)
        assert await other.drop_snapshots(since=1) == 0
        await publish(*args)

    monkeypatch.setattr(snapshots, "_publish", late)
    assert await saved(log, place) is None
    assert await other.snapshots() == []
