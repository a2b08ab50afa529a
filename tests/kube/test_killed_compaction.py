"""A compaction that is killed, or whose API server is: nothing is lost, the next goes on."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import pytest
from anyio import to_thread

import evstore
from evstore import maintenance
from evstore.log.kubernetes import objects
from evstore.log.kubernetes.shelf import Shelf
from kube.compacting import compactor_config, found, make_old, names

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from apiserver import ApiServer
    from evstore.config import Config

pytestmark = pytest.mark.fault

CHUNK_CHARACTERS: Final = 4000
LARGE: Final = {"padding": "x" * 2 * CHUNK_CHARACTERS}
PROGRAM: Final = Path(__file__).with_name("killed_compactor.py")
# What follows the first floor, which is 2.
FLOOR: Final = 6
HEAD: Final = 9
SECONDS: Final = 120


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(monkeypatch)
    monkeypatch.setattr(objects, "CHUNK_CHARACTERS", CHUNK_CHARACTERS)


@pytest.fixture
def config(apiserver: ApiServer, kubernetes_config: Config) -> Config:
    return compactor_config(apiserver, kubernetes_config)


async def written(apiserver: ApiServer, config: Config) -> bytes:
    """Write nine changes, two of them large, with a floor after the second.

    An append that failed has left two chunks. Returns the state digest.
    """
    async with evstore.open(config) as store:
        for name in ("a", "b", "large", "c", "larger", "d"):
            spec = LARGE if name.startswith("large") else {}
            await store.create("Mesh", name, spec=spec)
        assert (await maintenance.compact(config, keep_events=4)).floor == 2
        path = objects.collection(config.kubernetes.system_namespace, objects.CHUNKS)
        for name in objects.chunk_names(5, 2):
            spec = {"payload": "left over"}
            body = objects.document(objects.CHUNKS, name, spec)
            apiserver.create(path, json.loads(body))
        for name in "efg":
            await store.create("Mesh", name, spec={})
        return store.digest()


@asynccontextmanager
async def followed(config: Config) -> AsyncGenerator[None]:
    """Have somebody follow the log meanwhile, who then has seen all of it."""
    async with evstore.open(config) as store, aclosing(store.watch(after=2)) as watch:
        with anyio.fail_after(SECONDS):
            seen = [(await anext(watch)).position for _ in range(3, HEAD + 1)]
            yield
            late = await store.create("Mesh", "late", spec={})
            seen.append((await anext(watch)).position)
        assert late.version == HEAD + 1
        assert seen == list(range(3, HEAD + 2))
        assert (await store.get("Mesh", "larger")).spec == LARGE


async def check_and_finish(apiserver: ApiServer, config: Config, digest: bytes) -> None:
    """Check that nothing is lost; compact again, and check that nothing is left over."""
    assert (await maintenance.verify(config)).ok
    async with evstore.open(config) as store:
        assert store.digest() == digest
    done = await maintenance.compact(config, keep_events=HEAD - FLOOR)
    assert (done.floor, done.head) == (FLOOR, HEAD)
    positions = [int(name) for name in names(apiserver, config)]
    assert positions == list(range(FLOOR + 1, HEAD + 1))
    assert names(apiserver, config, "chunks") == []
    (log,) = found(apiserver, config, "logs")
    pieces = names(apiserver, config, "snapshotchunks")
    assert sorted(pieces) == sorted(log["spec"]["floor"]["pieces"])
    proof = await maintenance.verify(config)
    assert (proof.ok, proof.head) == (True, HEAD)
    async with evstore.open(config) as store:
        assert store.digest() == digest


async def kill_at(
    config: Config, method: str, plural: str, number: int, *, answered: bool
) -> None:
    """Run a compaction, and kill it at one of its requests."""
    asked = {
        "namespace": config.kubernetes.system_namespace,
        "kubeconfig": config.kubernetes.kubeconfig,
        "chunk_characters": CHUNK_CHARACTERS,
        "keep_events": HEAD - FLOOR,
        "request": [method, plural, number],
        "answered": answered,
    }
    command = [sys.executable, str(PROGRAM), json.dumps(asked)]
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdout is not None
        said = await process.stdout.receive()
        process.kill()
        assert said.strip() == b"there"


# In the order in which they come. Of the seven chunks or more six are of changes.
REQUESTS: Final = [
    ("POST", "snapshotchunks", 1, False),
    ("POST", "snapshotchunks", 1, True),
    ("PUT", "logs", 1, False),
    ("PUT", "logs", 1, True),
    ("DELETE", "snapshotchunks", 1, True),
    ("DELETE", "chunks", 1, True),
    ("DELETE", "changes", 2, True),
    ("PUT", "logs", 2, True),
    ("DELETE", "chunks", 7, True),
]


@pytest.mark.parametrize(("method", "plural", "number", "answered"), REQUESTS)
async def test_wherever_a_compaction_is_killed_nothing_is_lost_and_the_next_ends_it(
    apiserver: ApiServer,
    config: Config,
    method: str,
    plural: str,
    number: int,
    *,
    answered: bool,
) -> None:
    digest = await written(apiserver, config)
    async with followed(config):
        await kill_at(config, method, plural, number, answered=answered)
        await check_and_finish(apiserver, config, digest)


async def test_an_api_server_that_dies_under_a_compaction_loses_nothing(
    apiserver: ApiServer, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await written(apiserver, config)
    remove, removed = Shelf.remove, list[str]()

    async def killing(self: Shelf, plural: str, name: str) -> bool:
        was_there = await remove(self, plural, name)
        if plural == objects.CHANGES:
            removed.append(name)
            if len(removed) == 2:
                apiserver.kill_server()
        return was_there

    async with followed(config):
        with monkeypatch.context() as patched:
            patched.setattr(Shelf, "remove", killing)
            with pytest.raises(evstore.UnavailableError):
                await maintenance.compact(config, keep_events=HEAD - FLOOR)
        await to_thread.run_sync(apiserver.start_server)
        assert len(names(apiserver, config)) == HEAD - 2 - len(removed)
        await check_and_finish(apiserver, config, digest)
