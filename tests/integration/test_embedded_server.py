"""The embedded PostgreSQL: what it survives, and what it says where it cannot start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from evstore.embedded import EmbeddedServer
from evstore.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator

    from evstore.config import Config

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]

START_AND_WAIT = """\
import sys
from contextlib import suppress
from pathlib import Path
from evstore.embedded import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1])):
    print("started", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def embedded(server_folder: Path) -> Generator[EmbeddedServer]:
    with EmbeddedServer(server_folder, settings={"max_connections": "7"}) as server:
        yield server


def connect(config: Config) -> psycopg.Connection:
    return psycopg.connect(
        host=config.postgres.host,
        port=config.postgres.port,
        user=config.postgres.user,
        dbname=config.postgres.db_name,
        autocommit=True,
    )


def test_its_role_owns_its_database_and_is_no_superuser(
    embedded: EmbeddedServer,
) -> None:
    with connect(embedded.config()) as connection:
        row = connection.execute(
            "SELECT pg_get_userbyid(datdba), rolname, rolsuper, rolcreatedb"
            " FROM pg_database, pg_roles"
            " WHERE datname = current_database() AND rolname = current_user"
        ).fetchone()
    assert row == ("kuma", "kuma", False, False)


def test_it_is_durable_and_takes_settings(embedded: EmbeddedServer) -> None:
    assert embedded.psql("SHOW fsync") == "on"
    assert embedded.psql("SHOW max_connections") == "7"
    assert embedded.psql("SHOW listen_addresses") == ""


def test_names_of_databases_are_quoted(embedded: EmbeddedServer) -> None:
    embedded.create_database('a "b"; c')
    embedded.create_database("copy", template='a "b"; c')
    with connect(embedded.config("copy")):
        embedded.drop_database("copy")
    assert "copy" not in embedded.psql("SELECT datname FROM pg_database")


@pytest.mark.fault
def test_what_was_committed_survives_a_kill(embedded: EmbeddedServer) -> None:
    with connect(embedded.config()) as connection:
        connection.execute("CREATE TABLE committed AS SELECT 1")
        embedded.kill()
        assert not embedded.running
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    embedded.start()
    assert embedded.psql("SELECT * FROM committed", database="kuma") == "1"


@pytest.mark.fault
def test_a_stale_process_id_does_not_keep_it_from_starting(
    embedded: EmbeddedServer,
) -> None:
    embedded.kill()
    # As after a restart of a container: the number is another process's now.
    stale = embedded.folder / "data" / "postmaster.pid"
    _, _, rest = stale.read_text().partition("\n")
    stale.write_text(f"{os.getpid()}\n{rest}")
    embedded.start()
    assert embedded.running


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_it_can_be_stopped_and_started_again(
    embedded: EmbeddedServer, mode: str
) -> None:
    embedded.stop("immediate" if mode == "immediate" else "fast")
    embedded.stop()
    with pytest.raises(UnavailableError, match="not running"):
        embedded.psql("SELECT 1")
    embedded.start()
    assert embedded.psql("SELECT 1") == "1"


def test_a_folder_has_one_server_at_a_time(embedded: EmbeddedServer) -> None:
    with pytest.raises(UnavailableError, match=r"already; stop it first \(process"):
        EmbeddedServer(embedded.folder).start()
    assert embedded.psql("SELECT 1") == "1"


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_does_not_outlive_the_process_that_started_it(
    server_folder: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, str(server_folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=PROJECT,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"started\n"
        owner.send_signal(number)
    server = EmbeddedServer(server_folder)
    while not server.running:
        with suppress(UnavailableError):  # the old one is on its way out
            server.start()
    with server:
        assert server.psql("SELECT 1") == "1"


@pytest.mark.parametrize("name", ["long-" * 30, "a space", "a,comma", "ümlaut"])
def test_any_folder_will_do(server_folder: Path, name: str) -> None:
    with EmbeddedServer(server_folder / name) as server:
        assert server.host.startswith("/")
        with connect(server.config()) as connection:
            connection.execute("SELECT 1")
    assert not (Path(server.host) / ".s.PGSQL.5432").exists()


def test_a_folder_of_something_else_is_not_taken(server_folder: Path) -> None:
    (server_folder / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="neither empty nor"):
        EmbeddedServer(server_folder).start()


def test_data_of_another_major_version_is_refused(embedded: EmbeddedServer) -> None:
    embedded.stop()
    (embedded.folder / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigError, match=r"data of PostgreSQL 9, but the programs"):
        embedded.start()


def test_the_reason_of_the_server_is_passed_on(server_folder: Path) -> None:
    server = EmbeddedServer(server_folder, settings={"max_connections": "many"})
    with pytest.raises(UnavailableError, match=r'"max_connections": "many"'):
        server.start()
    assert not server.running


def test_a_missing_extra_is_named(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing(_name: str) -> None:
        return None

    monkeypatch.setattr("evstore.embedded.programs.find_spec", find_nothing)
    with pytest.raises(ConfigError, match=r'pip install "evstore\[embedded\]"'):
        EmbeddedServer(server_folder).start()


def test_variables_of_the_environment_do_not_reach_it(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGPORT", "PGDATA", "PGDATABASE", "PGUSER", "PGOPTIONS"):
        monkeypatch.setenv(name, "nonsense")
    with EmbeddedServer(server_folder) as server:
        assert server.psql("SELECT 1") == "1"
