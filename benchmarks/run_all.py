"""Runs every benchmark and writes docs/benchmarks.md, with pictures and raw results.

Usage: python benchmarks/run_all.py [--quick] [--only NAMES] [--skip NAMES] [--render]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from document import document

HERE = Path(__file__).parent
ROOT = HERE.parent
SCRIPTS = (
    "append",
    "costs",
    "instances",
    "growth",
    "watch",
    "read",
    "history",
    "replay",
    "start",
    "verify",
    "kubernetes",
)
REASON_CHARACTERS = 300


def measure(name: str, *, quick: bool) -> dict[str, Any]:
    """Run one script; show what it prints, and return its line of JSON."""
    words = [f"benchmarks/{name}.py", *(["--quick"] if quick else [])]
    print(f"--- {' '.join(words)}", flush=True)
    began = time.monotonic()
    # Printed as it comes: a script that fails half-way has said how far it got.
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as script:
        assert script.stdout is not None
        for line in script.stdout:
            lines.append(line)
            if not line.startswith("{"):
                print(line, end="", flush=True)
    print(f"--- {time.monotonic() - began:.0f} s\n", flush=True)
    if script.returncode or not lines:
        reason = "".join(lines[-3:]).strip()[-REASON_CHARACTERS:] or "see its output"
        command = " ".join(["python", *words])
        return {"failed": reason, "command": command, "quick": quick}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def main() -> None:
    options = _options()
    folder = ROOT / ".bench" / "quick" if options.quick else ROOT / "docs"
    store = folder / "benchmarks" / "results.json"
    results: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}
    for name in () if options.render else SCRIPTS:
        if name in (options.only or SCRIPTS) and name not in options.skip:
            results[name] = measure(name, quick=options.quick)
    for name in SCRIPTS:
        command = f"python benchmarks/{name}.py"
        results.setdefault(
            name, {"failed": "it was not run", "command": command, "quick": False}
        )
    store.parent.mkdir(parents=True, exist_ok=True)
    ordered = {name: results[name] for name in SCRIPTS}
    store.write_text(json.dumps(ordered, indent=1) + "\n")
    from plots import draw  # noqa: PLC0415 - loads slowly, and may be missing until here

    pictures = draw(ordered, store.parent)
    addresses = {name: f"benchmarks/{file}" for name, file in pictures.items()}
    page = folder / "benchmarks.md"
    template = (HERE / "document.md").read_text()
    page.write_text(document(template, ordered, addresses))
    print(f"written: {page.relative_to(ROOT)}")
    failed = [name for name in SCRIPTS if "failed" in ordered[name]]
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def _options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := set(found) - set(SCRIPTS):
            raise argparse.ArgumentTypeError(f"no benchmark {', '.join(unknown)}")
        return found

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="try all; no measurement")
    parser.add_argument("--only", type=names, help="measure these, keep the others")
    parser.add_argument("--skip", type=names, default=[], help="keep these")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
