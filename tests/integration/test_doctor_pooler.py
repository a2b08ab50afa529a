"""What `evstore doctor` says where PgBouncer is between it and the server."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

from doctoring import checks
from fault.history import connected
from servers import short_folder, unavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from evstore import Config

PORT = 6432  # nothing listens on it: it is part of the name of the socket


@contextmanager
def pgbouncer(config: Config, folder: Path, mode: str) -> Generator[Config]:
    """Run PgBouncer in front of a server; return how to get there through it."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        unavailable("no pgbouncer: apt-get install -y pgbouncer")
    postgres = config.postgres
    settings = folder / "pgbouncer.ini"
    users = folder / "users.txt"
    users.write_text(f'"{postgres.user}" ""\n')
    settings.write_text(
        f"[databases]\n* = host={postgres.host} port={postgres.port}\n"
        f"[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\n"
        f"unix_socket_dir = {folder}\nauth_type = trust\nauth_file = {users}\n"
        f"pool_mode = {mode}\nserver_round_robin = 1\n"
    )
    user = None
    if os.geteuid() == 0:  # it refuses to run as root
        user = "postgres"
        entry = pwd.getpwnam(user)
        for path in (folder, settings, users):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, settings],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=user,
            group=user,
            extra_groups=user and [],
        )
    try:
        changed = msgspec.structs.replace(postgres, host=str(folder), port=PORT)
        yield msgspec.structs.replace(config, postgres=changed)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "status", "words"),
    [
        ("transaction", "warn", "a pooler in transaction mode is in between"),
        ("session", "ok", "through a pooler that keeps sessions"),
    ],
)
async def test_a_pooler_is_found_by_what_it_does(
    postgres_config: Config, folder: Path, mode: str, status: str, words: str
) -> None:
    with pgbouncer(postgres_config, folder, mode) as config:
        with anyio.fail_after(10):
            while not (folder / f".s.PGSQL.{PORT}").exists():  # noqa: ASYNC110
                await anyio.sleep(0.02)
        # Two sessions of the pooler's, which it uses in turn from now on.
        async with (
            connected(config) as first,
            connected(config) as second,
            first.transaction(),
        ):
            await first.execute(b"SELECT 1")
            await second.execute(b"SELECT 1")
        found = await checks(config)
    assert found["listen"].status == status, found["listen"]
    assert words in found["listen"].found
    assert not any("cannot be told" in each.found for each in found.values()), found
    told = {name: each.status for name, each in found.items()}
    assert {name for name, each in told.items() if each != "ok"} <= {"listen", "rights"}
