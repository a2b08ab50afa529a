"""An etcd that is really full: what is told, what goes on, and what follows."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import anyio
import pytest

import evstore
from apiserver import prepared, running_apiserver
from evstore.errors import UnavailableError
from fault.history import checked_history, limited

if TYPE_CHECKING:
    from apiserver import ApiServer

pytestmark = [pytest.mark.fault, pytest.mark.slow]

QUOTA_BYTES: Final = 16 * 1024 * 1024
FILLING_CHARACTERS: Final = 400_000
MAPS: Final = "/api/v1/namespaces/default/configmaps"


def fill(server: ApiServer) -> list[str]:
    """Fill etcd with what is not ours; return the names of it."""
    names: list[str] = []
    for size in (FILLING_CHARACTERS, 1000):
        while True:
            name = f"filling-{len(names)}"
            data = {"data": secrets.token_hex(size // 2)}
            status, answer = server.request(
                "POST", MAPS, {"metadata": {"name": name}, "data": data}
            )
            if status != 201:
                assert "database space exceeded" in answer["message"]
                break
            names.append(name)
    return names


def make_room(server: ApiServer, names: list[str]) -> None:
    """Do what the how-to says: remove, compact, defragment, disarm."""
    for name in names:
        assert server.request("DELETE", f"{MAPS}/{name}")[0] == 200
    now = server.ask_etcd("kv/range", {"key": "AA=="})["header"]["revision"]
    server.ask_etcd("kv/compaction", {"revision": now, "physical": True})
    server.ask_etcd("maintenance/defragment", {})
    (alarm,) = server.ask_etcd("maintenance/alarm", {"action": "GET"})["alarms"]
    server.ask_etcd("maintenance/alarm", {"action": "DEACTIVATE", **alarm})


async def test_a_full_etcd_is_told_and_all_goes_on_when_there_is_room() -> None:
    with running_apiserver(
        etcd_options=[f"--quota-backend-bytes={QUOTA_BYTES}"]
    ) as server:
        await anyio.to_thread.run_sync(prepared, server)
        config = limited(server.config("default"), command_timeout=2.0)
        async with evstore.open(config) as store:
            await store.create("Zone", "before", spec={})
            names = await anyio.to_thread.run_sync(fill, server)
            with pytest.raises(UnavailableError, match="etcd is full: "):
                await store.create("Zone", "refused", spec={})
            assert (await store.get("Zone", "before", consistent=True)).version == 1
            await anyio.to_thread.run_sync(make_room, server, names)
            await store.create("Zone", "after", spec={})
            assert [each.name for each in (await store.list("Zone")).items] == [
                "after",
                "before",
            ]
        assert len(await checked_history(config)) == 2
