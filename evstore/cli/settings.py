"""`evstore config`: the settings in effect, and where each comes from."""

from __future__ import annotations

import msgspec
import typer

from .options import Output
from .output.tables import Column, Format, print_documents, print_table, printable
from .session import Settings, say

app = typer.Typer(help="Show the settings in effect.")


@app.callback(invoke_without_command=True)
def _config(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(2)


@app.command()
def show(
    context: typer.Context,
    output: Output = Format.TABLE,
) -> None:
    """Show every setting, its value and its origin.

    The origin is `default`, the file with its line, or the environment with the variable. Secrets are masked, in every
    format.
    """
    from evstore.config import describe

    settings = context.find_object(Settings)
    assert settings is not None, "the root callback has made it"
    found = describe(settings.config_path)
    if output is not Format.TABLE:
        print_documents(map(msgspec.to_builtins, found), output)
        return
    print_table(
        [Column("SETTING"), Column("VALUE", least=10), Column("ORIGIN", least=10)],
        [(each.key, printable(each.value), printable(each.origin)) for each in found],
    )
