"""`evstore doctor`: is the server as it should be, and if not, what to do?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from evstore.doctor.checks import Status

from .options import Output
from .output.tables import Column, Format, print_documents, print_table, printable
from .session import UsageError, config_of, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evstore.doctor.checks import Check

_STYLES: Final = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}
_LEAST: Final = 20


def doctor(
    context: typer.Context,
    output: Output = Format.TABLE,
) -> None:
    """Say whether the database, or the cluster, is as it should be.

    One line for each thing looked at: ok, warn or fail, what was found, and what to do. Nothing is changed. Ends with
    exit code 1 if anything fails.
    """
    from evstore.maintenance import doctor as doctor_

    config = config_of(context)
    if config.type == "memory":
        message = "store.type is memory: the doctor looks at databases and clusters"
        raise UsageError(f"{message}; set it to postgres or kubernetes")
    found = run(lambda: doctor_(config))
    if output is Format.TABLE:
        _print(found)
    else:
        print_documents(map(_document, found), output)
    if any(each.status is Status.FAIL for each in found):
        raise typer.Exit(1)


def _print(found: Sequence[Check]) -> None:
    from rich.text import Text

    print_table(
        [
            Column("STATUS"),
            Column("CHECK"),
            Column("FOUND", least=_LEAST),
            Column("TO DO", least=_LEAST),
        ],
        [
            (
                Text(each.status.value, _STYLES[each.status]),
                each.check,
                printable(each.found),
                printable(each.advice),
            )
            for each in found
        ],
    )


def _document(check: Check) -> dict[str, Any]:
    return {
        "check": check.check,
        "status": check.status.value,
        "found": check.found,
        "advice": check.advice,
    }
