"""`evstore import --from-kuma`: what a Kuma database holds becomes the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from .output.tables import Format, print_document
from .session import UsageError, quiet, run

if TYPE_CHECKING:
    from pathlib import Path

    from evstore.config import Config
    from evstore.transfer.kuma import TakenOver

PREFIX: Final = "FROM_KUMA"


def take_over(config: Config, kuma_file: Path, actor: str, output: Format) -> None:
    """Read the database that a configuration of kuma-cp names; make the log of it."""
    from evstore.config import load_config

    kuma = load_config(kuma_file, prefix=PREFIX)
    if kuma.type == "kubernetes":
        message = f"--from-kuma: {kuma_file}: store.type is kubernetes, not postgres"
        raise UsageError(message)

    async def work() -> TakenOver:
        from evstore.log import open_log
        from evstore.log.postgres.kuma import read_resources
        from evstore.transfer.kuma import take_over as take_over_

        rows = await read_resources(kuma.postgres)
        async with open_log(quiet(config)) as log:
            await log.connect()  # which measures its clock
            return await take_over_(log, rows, actor=actor)

    found = run(work)
    if output is not Format.TABLE:
        print_document(msgspec.to_builtins(found), output)
    elif found.events:
        print(
            f"took over {found.resources} resources of Kuma's as {found.events} events;"
            f" position {found.position}"
        )
    else:
        print(
            f"{found.resources} resources of Kuma's, all in the log already;"
            f" position {found.position}"
        )
