"""The set-up of TLS in docs/howto/postgres.md, done as it stands on the page."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

import evstore
from command import Command
from docs.blocks import ROOT
from evstore.config import load_config
from servers import DebianServer, debian_programs, short_folder, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

PAGE: Final = ROOT / "docs" / "howto" / "postgres.md"
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STEP: Final = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_SETTING: Final = re.compile(r"^(\w+) = '?([^'\n]*)'?$", re.MULTILINE)
_VARIABLE: Final = re.compile(r"^export (\w+)=(.*)$", re.MULTILINE)
_SECONDS_MAX: Final = 30


class Machine:
    """Does what the page says, in folders of its own, with its own host name and port."""

    def __init__(self, folder: Path) -> None:
        server = folder / "server"
        server.mkdir()
        self.server: Final = DebianServer(debian_programs(), server)
        self._command = Command(None, folder)
        self._settings: dict[str, str] = {}
        self._given = {
            "/etc/postgresql/tls": f"{folder}/server-tls",
            "/etc/kuma": f"{folder}/kuma",
            "db.example.com": "localhost",
            "5432": str(self.server.port),
        }
        if os.geteuid() != 0:
            self._given[" -o postgres -g postgres"] = ""
        program = folder / "evstore"
        program.write_text(
            f'#!/bin/sh\n{shlex.quote(sys.executable)} -m evstore "$@"\n'
        )
        program.chmod(0o755)
        self.file: Final = folder / "kuma-cp.yaml"
        self.variables: Final[dict[str, str]] = {}
        self.rows: Final[list[str]] = []

    def do(self, language: str, text: str) -> None:
        """Do what one block says."""
        for there, here in self._given.items():
            text = text.replace(there, here)
        match language:
            case "console":
                for line, output in _STEP.findall(text):
                    self._run(line, output.strip())
            case "ini":
                self._settings.update(_SETTING.findall(text))
            case "text":
                self.server.initialise()
                self.server.start(text, self._settings)
            case "sql":
                self._query(text)
            case "yaml":
                self.file.write_text(text, encoding="utf-8")
            case _:
                self.variables.update(_VARIABLE.findall(text))

    def _run(self, line: str, expected: str) -> None:
        folder = self._command.folder
        path = f"{folder}:/usr/bin:/bin"
        done = subprocess.run(
            ["/bin/bash", "-c", line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd=folder,
            env=self._command.environ(PATH=path),
            text=True,
            timeout=_SECONDS_MAX,
        )
        told = f"{line}\nprinted\n{done.stdout}{done.stderr}"
        assert done.returncode == 0, told
        pattern = ".*".join(map(re.escape, expected.split("...")))
        assert re.fullmatch(pattern, done.stdout.strip(), re.DOTALL), told

    def _query(self, text: str) -> None:
        if "pg_stat_ssl" not in text:
            for statement in filter(None, text.strip().split(";\n")):
                self.server.psql(statement)
            return

        async def look() -> None:
            async with evstore.open(load_config(self.file, environ={})) as store:
                await store.head()
                self.rows.extend(self.server.psql(text).splitlines())

        anyio.run(look)


@pytest.fixture
def machine() -> Iterator[Machine]:
    if shutil.which("openssl") is None:
        unavailable("no openssl: apt-get install -y openssl")
    with short_folder() as folder:
        made = Machine(folder)
        try:
            yield made
        finally:
            made.server.stop()


def section(heading: str) -> list[Any]:
    """Return the blocks of a section: language and text."""
    _, found, text = PAGE.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    assert found, f"{PAGE} has no {heading!r}"
    return _BLOCK.findall(re.split(r"^##? ", text, maxsplit=1, flags=re.MULTILINE)[0])


def test_the_set_up_of_tls_works_as_it_stands_on_the_page(machine: Machine) -> None:
    blocks = section("## TLS")
    languages = {language for language, _ in blocks}
    assert languages == {"console", "ini", "text", "sql", "yaml", "sh"}
    for language, text in blocks:
        machine.do(language, text)
    assert {row.split("|")[0] for row in machine.rows} >= {
        "evstore writer",
        "evstore reader",
    }
    for row in machine.rows:
        _, encrypted, version, subject = row.split("|")
        assert encrypted == "t"
        assert version in {"TLSv1.2", "TLSv1.3"}
        assert subject == "/CN=kuma"
    by_file = load_config(machine.file, environ={})
    assert load_config(environ=machine.variables) == by_file
