"""The package as others install it: the wheel, and an editable checkout."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PROJECT = Path(__file__).parents[2]

AVAILABLE = """\
import json
from evstore.log.postgres import migrations
found = migrations.available()
print(json.dumps([[m.version, m.name, m.checksum, len(m.sql)] for m in found]))
"""

WHERE = """\
import json
from importlib.resources import files
import evstore
names = sorted(path.name for path in files("evstore._migrations").iterdir())
print(json.dumps([evstore.__file__, names, files("evstore").joinpath("py.typed").is_file()]))
"""


class Environment:
    """A virtual environment that has evstore's dependencies, but not evstore.

    The dependencies are those of the environment that runs the tests: its folder of
    packages stands last on the path, so that nothing is fetched.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True, with_pip=False)
        self.bin = folder / "bin"
        self.packages = next(folder.glob("lib/python*/site-packages"))
        # As plain paths: the .pth files there, such as that of an editable evstore, are
        # not read.
        borrowed = [path for path in sys.path if path.endswith("-packages")]
        (self.packages / "zz-dependencies.pth").write_text("\n".join(borrowed))

    def install(self, *what: str) -> None:
        run(
            *(sys.executable, "-m", "pip", "--python", str(self.bin / "python")),
            *("install", "--no-deps", "--no-index", "--no-build-isolation", *what),
        )

    def python(self, code: str) -> Any:
        return json.loads(run(str(self.bin / "python"), "-c", code))


def run(*command: str, cwd: Path = Path("/")) -> str:
    # From another folder, and without PYTHONPATH, the checkout cannot be imported.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        command, capture_output=True, check=False, cwd=cwd, env=environment, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def checkout(folder: Path) -> Path:
    """Copy what is needed for building, so that a build leaves nothing behind."""
    folder.mkdir()
    for name in ("evstore", "migrations"):
        shutil.copytree(
            PROJECT / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder)
    return folder


def migration_files() -> list[str]:
    return sorted(path.name for path in (PROJECT / "migrations").glob("*.sql"))


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index"),
        *("--no-build-isolation", "--wheel-dir", str(tmp_path / "dist")),
        str(checkout(tmp_path / "checkout")),
    )
    (built,) = (tmp_path / "dist").glob("evstore-*.whl")
    shutil.rmtree(tmp_path / "checkout")
    return built


def test_the_wheel_brings_the_migrations_and_the_command(
    wheel: Path, environment: Environment
) -> None:
    environment.install(str(wheel))

    module, names, typed = environment.python(WHERE)
    assert Path(module).is_relative_to(environment.packages)
    assert [name for name in names if name.endswith(".sql")] == migration_files()
    assert typed

    assert environment.python(AVAILABLE)[0][0] == 1
    assert "migrate" in run(str(environment.bin / "evstore"), "--help")


def test_an_editable_install_finds_the_migrations_of_its_checkout(
    tmp_path: Path, environment: Environment
) -> None:
    source = checkout(tmp_path / "checkout")
    environment.install("--editable", str(source))

    before = environment.python(AVAILABLE)
    assert [version for version, *_ in before] == list(range(1, len(before) + 1))
    assert len(before) == len(migration_files())

    # A migration that is being written is there at once, without a new installation.
    number = len(before) + 1
    new = source / "migrations" / f"{number:04}_being_written.sql"
    new.write_text("-- evstore: readable_from 1, writable_from 1\nSELECT 1;\n")
    assert [version for version, *_ in environment.python(AVAILABLE)][-1] == number


def test_two_builds_of_one_checkout_hold_the_same_migrations(
    wheel: Path, environment: Environment
) -> None:
    environment.install(str(wheel))
    for name in migration_files():
        installed = environment.packages / "evstore" / "_migrations" / name
        original = PROJECT / "migrations" / name
        assert digest(installed) == digest(original)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
