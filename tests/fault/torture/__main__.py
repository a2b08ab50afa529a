"""The long run: `python -m fault.torture --store kubernetes --seconds 600 --seed 7`."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import anyio
import pytest

from .report import report
from .run import GROUNDS, torture


def main() -> None:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--store", choices=sorted(GROUNDS), default="postgres")
    options = parser.parse_args()
    # The server runs as another user where root starts it: everybody may pass.
    folder = Path(tempfile.mkdtemp(prefix="evstore-torture-", dir="/tmp"))
    folder.chmod(0o755)
    sys.stdout.write(
        f"{options.store}, seed {options.seed}, {options.seconds:.0f} s, in {folder}\n"
    )
    sys.stdout.flush()
    server, histories = folder / "server", folder / "histories"
    server.mkdir()
    histories.mkdir()
    call = partial(
        torture,
        server,
        histories,
        seconds=options.seconds,
        seed=options.seed,
        store=options.store,
    )
    try:
        run = anyio.run(call)
    except pytest.skip.Exception as reason:
        sys.exit(str(reason))
    sys.stdout.write(f"{report(run)}\n")
    if run.violations:
        sys.exit(f"the histories are in {histories}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
