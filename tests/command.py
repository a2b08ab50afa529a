"""Running the `evstore` command: in this process, or as one of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from typer.testing import CliRunner

from evstore.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    from evstore.config import Config

_SECONDS_MAX: Final = 50
_OF_TERMINALS: Final = frozenset({"COLUMNS", "FORCE_COLOR", "NO_COLOR"})


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The documents that `-o json` printed."""
        return [json.loads(line) for line in self.out.splitlines()]


class Command:
    """The command with the settings of one store, in a folder of its own."""

    def __init__(self, config: Config | None, folder: Path) -> None:
        self.folder: Final = folder
        self._settings: dict[str, str] = {}
        if config is not None:
            self._settings = {
                "KUMA_STORE_TYPE": config.type.value,
                "KUMA_STORE_POSTGRES_HOST": config.postgres.host,
                "KUMA_STORE_POSTGRES_PORT": str(config.postgres.port),
                "KUMA_STORE_POSTGRES_USER": config.postgres.user,
                "KUMA_STORE_POSTGRES_PASSWORD": config.postgres.password,
                "KUMA_STORE_POSTGRES_DB_NAME": config.postgres.db_name,
                "KUMA_STORE_KUBERNETES_KUBECONFIG": config.kubernetes.kubeconfig,
                "KUMA_STORE_KUBERNETES_SYSTEM_NAMESPACE": (
                    config.kubernetes.system_namespace
                ),
            }

    def __call__(self, *words: str, stdin: str | bytes = b"", **environ: str) -> Done:
        """Run the command in this process, which is faster."""
        wanted = self.environ(**environ)
        absent = dict.fromkeys(os.environ.keys() - wanted.keys())
        with contextlib.chdir(self.folder):
            done = CliRunner().invoke(app, words, input=stdin, env={**wanted, **absent})
        return Done(done.exit_code, done.stdout, done.stderr)

    def process(self, *words: str, stdin: bytes = b"", **environ: str) -> Done:
        """Run the command as a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "evstore", *words],
            input=stdin,
            capture_output=True,
            check=False,
            cwd=self.folder,
            env=self.environ(**environ),
            timeout=_SECONDS_MAX,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *words: str, **environ: str) -> subprocess.Popen[str]:
        """Start the command; the caller ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "evstore", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environ(**environ),
            text=True,
        )

    def write(self, name: str, text: str | bytes) -> str:
        """Write a file into the folder; return its name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return name

    def environ(self, **more: str) -> dict[str, str]:
        """Return the variables that the command gets."""
        kept = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith("KUMA_") and name not in _OF_TERMINALS
        }
        return {**kept, "PYTHONWARNINGS": "error", **self._settings, **more}
