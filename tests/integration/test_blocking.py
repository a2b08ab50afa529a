"""The store for threads: the same methods, results and errors, waiting."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import evstore
import evstore.blocking

if TYPE_CHECKING:
    from evstore.config import Config

ROOT = Path(__file__).parents[2]


def test_the_methods_are_those_of_the_store_and_wait() -> None:
    with evstore.blocking.open() as store:
        mesh = store.create("Mesh", "default", spec={}, actor="alice")
        web = store.create("Dataplane", "web", mesh="default", spec={}, owner=mesh)
        web = store.update(web, spec={"port": 80})
        assert store.get("Dataplane", "web", mesh="default").spec == {"port": 80}
        assert store.get("Dataplane", "web", mesh="default", at=2).spec == {}
        assert [each.name for each in store.list("Dataplane").items] == ["web"]
        with store.transaction(reason="two at once") as tx:
            tx.create("Zone", "east", spec={})
            tx.create("Zone", "west", spec={})
        assert [each and each.version for each in tx.results] == [4, 5]
        store.delete("Mesh", "default")
        assert [event.position for event in store.events()] == [1, 2, 3, 4, 5, 6, 7]
        assert store.position == store.head() == 7


def test_errors_come_out_as_they_are() -> None:
    with evstore.blocking.open() as store:
        with pytest.raises(evstore.NotFoundError):
            store.get("Mesh", "default")
        with pytest.raises(KeyError), store.transaction() as tx:
            _fail_after_a_change(tx)
        assert store.head() == 0
    with pytest.raises(evstore.ConflictError), evstore.blocking.open():
        raise evstore.ConflictError


def _fail_after_a_change(tx: evstore.Transaction) -> None:
    tx.create("Mesh", "default", spec={})
    raise KeyError


def test_many_threads_share_one_store() -> None:
    with evstore.blocking.open() as store:
        threads = [
            threading.Thread(
                target=lambda name=f"z{n}": store.create("Zone", name, spec={})
            )
            for n in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.list("Zone").total == 16


def test_a_watch_in_another_thread_sees_everything_and_ends_with_the_store() -> None:
    seen: list[int] = []
    with evstore.blocking.open() as store:
        watcher = threading.Thread(
            target=lambda: seen.extend(event.position for event in store.watch(after=0))
        )
        watcher.start()
        for number in range(20):
            store.create("Zone", f"z{number}", spec={})
        for _ in range(1_000):
            if len(seen) == 20:
                break
            time.sleep(0.01)
    watcher.join(timeout=10)
    assert not watcher.is_alive()
    assert seen == list(range(1, 21))


def test_it_works_on_postgresql(postgres_config: Config) -> None:
    with evstore.blocking.open(postgres_config) as store:
        store.create("Mesh", "default", spec={})
    with evstore.blocking.open(postgres_config) as store:
        assert store.get("Mesh", "default", consistent=True).version == 1


def test_nothing_private_is_handed_through() -> None:
    with evstore.blocking.open() as store:
        public = {name for name in dir(evstore.Store) if not name.startswith("_")}
        assert public <= set(dir(store))
        assert inspect.signature(store.get) is not None
        with pytest.raises(AttributeError):
            _ = store._committer  # type: ignore[attr-defined]


def test_the_stub_is_made_from_the_store() -> None:
    script = ROOT / "scripts" / "blocking_stub.py"
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
