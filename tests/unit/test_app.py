"""`--app package.module:factory`: what it finds, and one line for each mistake."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

import evstore
from evstore.cli import options  # noqa: TC001 - typer reads annotations
from evstore.cli.input.app import load_app
from evstore.cli.main import _Root
from evstore.cli.session import Settings, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

PLANE = """\
import evstore
from plane_app_parts import TYPES

an_app = evstore.App()
a_number = 42

def make():
    return evstore.App(types=TYPES)

def no_return():
    pass

def broken():
    raise ValueError("no\\n  way")

def ends():
    raise SystemExit

async def later():
    return evstore.App()

class Maker:
    def __call__(self):
        return evstore.App(projections=[1])

maker = Maker()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be in a folder with modules in it that nobody has imported before."""
    for name, text in {
        "plane_app.py": PLANE,
        "plane_app_parts.py": "TYPES = (dict,)",
        "plane_app_package/__init__.py": "",
        "plane_app_package/inner.py": "from plane_app import make",
        "plane_app_lacks.py": "import plane_app_absent.inner",
        "plane_app_wrong.py": "def make(:",
        "plane_app_fails.py": "1 / 0",
        "plane_app_exits.py": "raise SystemExit(3)",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    # As the installed command has it: without the current folder.
    others = [each for each in sys.path if each and Path(each) != Path.cwd()]
    monkeypatch.setattr(sys, "path", others)
    yield tmp_path
    for name in [each for each in sys.modules if each.startswith("plane_app")]:
        del sys.modules[name]


@pytest.mark.parametrize("module", ["plane_app", "plane_app_package.inner"])
def test_a_factory_is_found_in_the_current_folder(module: str) -> None:
    assert load_app(f"{module}:make") == evstore.App(types=(dict,))


def test_whatever_can_be_called_is_a_factory() -> None:
    assert load_app("plane_app:maker").projections == [1]


def test_an_app_has_nothing_unless_told() -> None:
    app = evstore.App()
    assert (app.types, app.upcasters, app.projections) == ((), (), ())


def test_the_current_folder_comes_first_and_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "plane_app.py").write_text("")
    monkeypatch.syspath_prepend(str(other))
    load_app("plane_app:make")
    load_app("plane_app:maker")
    assert sys.path[0] == str(folder)
    assert sys.path.count(str(folder)) == 1


@pytest.mark.parametrize(
    ("reference", "reason"),
    {
        "plane_app": "it must be package.module:factory",
        "plane_app:": "it must be package.module:factory",
        ":make": "it must be package.module:factory",
        "plane_app.:make": "it must be package.module:factory",
        "../plane_app:make": "it must be package.module:factory",
        "plane_app:make()": "it must be package.module:factory",
        "plane_app_absent:make": "there is no module plane_app_absent",
        "plane_app_absent.a.b:make": "there is no module plane_app_absent.a.b",
        "plane_app_package.b:make": "there is no module plane_app_package.b",
        "plane_app.b:make": "there is no module plane_app.b",
        "plane_app_lacks:make": (
            "cannot import plane_app_lacks: ModuleNotFoundError: "
            "No module named 'plane_app_absent'"
        ),
        "plane_app_wrong:make": "cannot import plane_app_wrong: SyntaxError: invalid",
        "plane_app_fails:make": (
            "cannot import plane_app_fails: ZeroDivisionError: division by zero"
        ),
        "plane_app_exits:make": "cannot import plane_app_exits: SystemExit: 3",
        "plane_app:absent": "module plane_app has no absent",
        "plane_app:a_number": "a_number is int, not a function",
        "plane_app:an_app": "an_app is an App; name a function that returns it",
        "plane_app:broken": "broken() failed: ValueError: no way",
        "plane_app:ends": "ends() failed: SystemExit",
        "plane_app:no_return": "no_return() returned None, not an evstore.App",
        "plane_app:later": "later is async; it must be a plain function",
        "plane_app:dict": "module plane_app has no dict",
    }.items(),
)
def test_each_mistake_is_a_line_that_names_it(reference: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_app(reference)
    message = str(caught.value)
    assert message.startswith(f"--app {reference}: {reason}")
    assert "\n" not in message


def test_a_factory_of_another_kind_is_named() -> None:
    Path("plane_app_other.py").write_text("make = dict")
    with pytest.raises(UsageError, match="returned dict, not an"):
        load_app("plane_app_other:make")


def _command(*words: str, **environ: str) -> Any:
    """Run a command with the option, under the root that turns errors into codes."""
    command = typer.Typer(cls=_Root, pretty_exceptions_enable=False)

    @command.callback()
    def _main(context: typer.Context, *, debug: bool = False) -> None:
        context.obj = Settings(debug=debug)

    @command.command()
    def show(app: options.AppName = None) -> None:
        typer.echo(app and load_app(app).types)

    return CliRunner().invoke(command, words, env=environ)


def test_the_option_wins_over_the_environment() -> None:
    assert _command("show").stdout == "\n"
    assert _command("show", EVSTORE_APP="").stdout == "\n"
    found = "(<class 'dict'>,)\n"
    assert _command("show", EVSTORE_APP="plane_app:make").stdout == found
    given = _command("show", "--app", "plane_app:maker", EVSTORE_APP="plane_app:make")
    assert given.stdout == "()\n"


def test_a_mistake_is_wrong_use_and_debug_shows_where_it_comes_from() -> None:
    done = _command("show", "--app", "plane_app:broken")
    assert done.exit_code == 2
    assert done.stderr == (
        "error: --app plane_app:broken: broken() failed: ValueError: no way\n"
    )
    debug = _command("--debug", "show", "--app", "plane_app:broken")
    assert debug.exit_code == 2
    assert 'raise ValueError("no\\n  way")' in debug.stderr
    assert debug.stderr.endswith(done.stderr)
