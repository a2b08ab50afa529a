"""The command itself: global options, and how errors and interrupts end it.

Exit codes: 0 done; 1 the answer is no, or the operation failed; 2 wrong use; 130 ended
by Ctrl-C; 141 the reader of the output has gone. Errors are lines on standard error,
tracebacks only come with `--debug`.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.core

from evstore.errors import StoreError

from . import (
    apply,
    at,
    compact,
    dev,
    doctor,
    events,
    exporting,
    importing,
    migrate,
    past,
    projection,
    proof,
    redact,
    replay,
    resources,
    reverting,
    settings,
    snapshot,
    stats,
    watch,
)
from .session import Settings, UsageError, log_in_lines, say

_BROKEN_PIPE: Final = 141  # as the shell reports a program that SIGPIPE has ended


class _Root(typer.core.TyperGroup):
    """The group of all commands; the only place that turns errors into exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what goes wrong becomes a line and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except BrokenPipeError:
            _discard_output()
            raise typer.Exit(_BROKEN_PIPE) from None
        except Exception as error:  # noqa: BLE001 - the last one to hear of it
            if isinstance(error, OSError):
                _discard_output()
            raise typer.Exit(_report(error, debug=ctx.params["debug"])) from None
        return result

    def main(self, *args: Any, **options: Any) -> Any:
        """Run as a program: parse, invoke, exit."""
        standalone = options.pop("standalone_mode", True)
        try:
            code = super().main(*args, **options | {"standalone_mode": False})
        except typer.TyperException as error:
            code = error.exit_code
            hint = getattr(getattr(error, "ctx", None), "command_path", "evstore")
            say(f"error: {_one_line(error)} (see {hint} --help)")
        except typer.Abort:
            code = 130
        code = code if isinstance(code, int) else 0
        if standalone:
            sys.exit(code)
        return code


def _one_line(error: typer.TyperException) -> str:
    message = " ".join(error.format_message().split())
    return message[:1].lower() + message[1:].rstrip(".")


def _report(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    match error:
        case UsageError():
            code, message = 2, str(error)
        case StoreError():
            code, message = 1, str(error)
        case OSError():
            code, message = 1, _system_message(error)
        case _:
            code = 1
            message = f"unexpected {type(error).__name__}: {error}"
            if not debug:
                message += " (--debug shows where)"
    for line in message.splitlines():
        say(f"error: {line}")
    return code


def _discard_output() -> None:
    """Throw away what is still buffered, if it cannot be written.

    Python would otherwise try, and complain, once more at its end.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _system_message(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


app = typer.Typer(
    name="evstore",
    cls=_Root,
    help="Operate an evstore: the event-sourced store of a service mesh's resources.",
    epilog="Settings come from --config and from KUMA_STORE_* in the environment.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"evstore {version('evstore')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML file of settings, as of kuma-cp."),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    del version  # its callback has done it
    if not debug:
        log_in_lines()
    context.obj = Settings(config_path=config, debug=debug)
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(2)


app.add_typer(migrate.app, name="migrate")
app.add_typer(snapshot.app, name="snapshot")
app.add_typer(projection.app, name="projection")
app.add_typer(settings.app, name="config")
app.command(name="doctor")(doctor.doctor)
app.command(name="dev")(dev.dev)
app.command(name="apply")(apply.apply)
app.command(name="get")(resources.get)
app.command(name="list")(resources.list_)
app.command(name="delete")(resources.delete)
app.command(name="log")(events.log)
app.command(name="history")(events.history)
app.add_typer(at.app, name="at")
app.command(name="diff")(past.diff)
app.command(name="blame")(past.blame)
app.command(name="revert")(reverting.revert)
app.command(name="watch")(watch.watch)
app.command(name="stats")(stats.stats)
app.command(name="export")(exporting.export)
app.command(name="import")(importing.import_)
app.command(name="replay")(replay.replay)
app.command(name="verify")(proof.verify)
app.command(name="anchor")(proof.anchor)
app.command(name="redact")(redact.redact)
app.command(name="compact")(compact.compact)
