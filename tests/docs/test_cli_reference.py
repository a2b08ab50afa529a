"""The reference of the command lists exactly the commands and options that it has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main

from evstore.cli import app
from evstore.cli.input.manifests import GLOBAL_TYPES

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def commands() -> dict[str, Any]:
    """Return the command and all below it by their names."""
    root: Any = typer.main.get_command(app)
    found = {"evstore": root}
    for name, command in root.commands.items():
        below = getattr(command, "commands", {})
        found |= {f"evstore {name} {each}": below[each] for each in below}
        if not below:
            found[f"evstore {name}"] = command
    return found


def section(heading: str) -> str:
    """Return what stands under a heading."""
    _, found, after = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    assert found, f"{PAGE} has no heading {heading!r}"
    return after.partition("\n## ")[0]


def option(parameter: Any) -> tuple[str, str]:
    """Return the cells of a parameter's row."""
    value = f" {parameter.metavar}" if parameter.metavar else ""
    *short, last = parameter.opts
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar}`"
    else:
        names = ", ".join(f"`{name}`" for name in [*short, last + value])
    return names, parameter.help


def test_every_command_has_a_section() -> None:
    headings = re.findall(
        r"^## `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(headings) == sorted(commands())


@pytest.mark.parametrize("name", commands())
def test_every_option_is_listed_with_its_meaning(name: str) -> None:
    rows = [
        tuple(
            cell.strip().replace("\\|", "|")
            for cell in re.split(r"(?<!\\)\|", line)[1:-1]
        )
        for line in section(f"`{name}`").splitlines()
        if line.startswith("| `")
    ]
    assert rows == [option(each) for each in commands()[name].params]


@pytest.mark.parametrize("name", commands())
def test_help_says_what_a_command_does_in_a_line_that_fits(name: str) -> None:
    first = (commands()[name].help or "").splitlines()[0]
    assert 10 < len(first) < 65 or name == "evstore"
    assert first.endswith(".")


def test_the_types_without_mesh_are_those_of_the_code() -> None:
    text = section("`evstore apply`").partition("belong to no mesh:")[2]
    listed = text.partition(".\n")[0]
    assert re.findall(r"`(\w+)`", listed) == sorted(GLOBAL_TYPES)
