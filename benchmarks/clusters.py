"""A Kubernetes API server with its etcd, for benchmarks: the one that the tests start."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import TYPE_CHECKING

import aiohttp
import anyio
import pytest
from harness import ROOT
from peers import MissingError, Outcome

sys.path.append(str(ROOT / "tests"))

from apiserver import ApiServer, prepared, running_apiserver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from evstore.config import Config

ROLE = "owner"
_numbers = count()


@contextmanager
def cluster() -> Generator[ApiServer]:
    """Run an API server that has the kinds of the log, in a folder that is then removed.

    Raises:
        MissingError: it cannot be had here.
    """
    with ExitStack() as stack:
        try:
            running = stack.enter_context(running_apiserver())
        except pytest.skip.Exception as reason:
            raise MissingError(str(reason)) from None
        prepared(running)
        yield running


def fresh_namespace(running: ApiServer) -> Config:
    """Return the settings of a store in a new namespace."""
    name = f"bench-{next(_numbers)}"
    running.create("/api/v1/namespaces", {"metadata": {"name": name}})
    return running.config(name, role=ROLE)


def session(running: ApiServer) -> aiohttp.ClientSession:
    """Return the fastest client for Python: no models, and as many connections as wanted."""
    context = ssl.create_default_context(cafile=running.ca_path)
    return aiohttp.ClientSession(
        f"https://{running.host}:{running.port}",
        connector=aiohttp.TCPConnector(ssl=context, limit=0),
        headers={
            "Authorization": f"Bearer {running.token(ROLE)}",
            "Accept": "application/json",
            "Content-Type": "application/json",
        },
    )


async def hammer(
    clients: int, seconds: float, change: Callable[[int], Awaitable[None]]
) -> Outcome:
    """Have clients make changes for so long, each one after the other.

    `change` is told which client it is. What ends too late is not counted.
    """
    latencies: list[float] = []
    ended = time.perf_counter() + seconds

    async def client(number: int) -> None:
        while (called := time.perf_counter()) < ended:
            await change(number)
            now = time.perf_counter()
            if now <= ended:
                latencies.append(now - called)

    async with anyio.create_task_group() as tasks:
        for number in range(clients):
            tasks.start_soon(client, number)
    return Outcome(len(latencies), seconds, latencies)


def settings_of(running: ApiServer) -> dict[str, str]:
    """Return what is measured on."""
    _, version = running.request("GET", "/version")
    words = subprocess.run(
        ["etcd", "--version"], capture_output=True, check=True, text=True
    ).stdout.split()
    return {
        "Kubernetes API server": f"{version['gitVersion']}, {version['goVersion']}",
        "etcd": f"{words[2]}, one server, fsync on",
    }
