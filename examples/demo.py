"""What evstore does, in front of your eyes: `make demo`.

A PostgreSQL of its own is started in a folder that is removed at the end. A control
plane (`control_plane.py`) fills its store, is killed by SIGKILL while it writes, and
comes back; then the real `evstore` command looks at what it did.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from evstore import StoreError
from evstore.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

CONTROL_PLANE: Final = Path(__file__).with_name("control_plane.py")
COMMAND: Final = Path(sys.executable).with_name("evstore")
WRITING_SECONDS: Final = 3.0
HEARTBEAT: Final = "200ms"
REMOVING_SECONDS_MAX: Final = 5.0
WIDTH_MAX: Final = 120
INDENT: Final = 4
ROOMY: Final = 100  # below that, what commands print gets nearly all of the width

console: Final = Console(highlight=False)
width: Final = min(console.width, WIDTH_MAX)


class DemoError(Exception):
    """A step did not end as it should."""


# What the user sees.


class Steps:
    """Numbers the steps; each shows how long it took, then what happened in it."""

    def __init__(self) -> None:
        self._number = 0
        self._began = time.perf_counter()
        self._lines: list[Text] = []

    @contextmanager
    def step(self, title: str) -> Generator[None]:
        """Print a title at once, and the rest when the body ends, in whatever way."""
        self._number += 1
        head = f"{self._number:>2}  {title}"
        console.print(f"\n[bold]{head}[/]", end="")
        sys.stdout.flush()
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = f"{time.perf_counter() - began:.2f} s"
            console.print(f"[dim]{seconds:>{max(width - len(head), 9)}}[/]")
            for line in self._lines:
                console.print(line, soft_wrap=True)
            self._lines.clear()

    def say(self, text: str) -> None:
        """Add what happened in this step."""
        for line in Text.from_markup(text).wrap(console, width - INDENT):
            line.rstrip()
            self._lines.append(Text(" " * INDENT).append_text(line))

    def command(self, environment: dict[str, str], *arguments: str) -> None:
        """Run the command of evstore, and add it and what it prints."""
        margin = " " * (INDENT if width >= ROOMY else 1)
        shown = f"{margin}$ evstore {shlex.join(arguments)}"
        self._lines.append(Text(shown, style="cyan"))
        done = subprocess.run(  # noqa: S603
            [COMMAND, *arguments],
            env=environment | {"COLUMNS": str(width - len(margin))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        for line in done.stdout.splitlines():
            self._lines.append(Text(margin).append_text(Text.from_ansi(line)))
        if done.returncode != 0:
            message = f"evstore {arguments[0]} ended with {done.returncode}"
            raise DemoError(message)

    def finish(self) -> None:
        """Print the last line."""
        seconds = time.perf_counter() - self._began
        console.print(f"\n[bold green]All of it held[/], in {seconds:.1f} s.")


# The control plane.


@contextmanager
def control_plane(
    environment: dict[str, str], mode: str
) -> Generator[subprocess.Popen[str]]:
    """Start the control plane; it does not outlive the body."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, CONTROL_PLANE, mode],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the demo, which then ends this
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """Yield what the control plane tells, up to its end."""
    assert process.stdout is not None
    for line in process.stdout:
        # The last line of a killed process may be half of one.
        if line.endswith("\n"):
            yield json.loads(line)


class Known:
    """What the world outside knows of the control plane's work."""

    def __init__(self) -> None:
        self.checkpoints: list[tuple[int, str]] = []
        self.acknowledged: list[str] = []
        self.incident_over = False
        self.created_at = 0
        self._sent: list[str] = []

    def take(self, line: dict[str, Any]) -> None:
        """Take in one line."""
        match line["what"]:
            case "sent":
                self._sent.append(line["id"])
            case "acknowledged":
                self.acknowledged.append(line["id"])
            case "checkpoint":
                self.checkpoints.append((line["position"], line["digest"]))
            case "incident over":
                self.incident_over = True
            case "created":
                # The log was empty: its head is as many events as were created.
                self.created_at = line["total"]
            case _:
                pass

    def as_json(self) -> str:
        """Return it as the control plane takes it."""
        unanswered = sorted(set(self._sent) - set(self.acknowledged))
        return json.dumps(
            {
                "checkpoints": self.checkpoints,
                "acknowledged": self.acknowledged,
                "unanswered": unanswered,
            }
        )


def expect(told: Iterator[dict[str, Any]], what: str) -> dict[str, Any]:
    """Return the next line, which must be about this."""
    line = next(told, None)
    if line is None or line["what"] != what:
        message = f"the control plane failed before it told {what!r}"
        raise DemoError(message)
    return line


# The steps.


def work_and_crash(steps: Steps, environment: dict[str, str]) -> Known:
    """Let the control plane write, and kill it while it does."""
    known = Known()
    with ExitStack() as stack:
        with steps.step("A control plane opens the store and creates a mesh"):
            process = stack.enter_context(control_plane(environment, "run"))
            told = lines(process)
            for line in told:
                known.take(line)
                if known.created_at:
                    steps.say(
                        f"process {process.pid}: {line['total']} resources, of them"
                        f" {line['dataplanes']} data planes and {line['secrets']}"
                        f" secrets, in one transaction of {line['seconds']:.2f} s"
                    )
                    break
            else:
                message = "the control plane ended before it had made the mesh"
                raise DemoError(message)
        with steps.step("Twelve tasks of five actors change it, all at the same time"):
            began = time.perf_counter()
            seconds = 0.0
            for line in told:
                known.take(line)
                seconds = time.perf_counter() - began
                if seconds > WRITING_SECONDS and known.incident_over:
                    break
            count = len(known.acknowledged)
            steps.say(
                f"{count:,} commands acknowledged, {count / max(seconds, 0.01):,.0f} a"
                " second, each one durable"
            )
        with steps.step("SIGKILL, while they write"):
            process.kill()
            for line in told:
                known.take(line)
            status = process.wait()
            if status != -signal.SIGKILL:
                message = f"the control plane ended by itself, with exit code {status}"
                raise DemoError(message)
            position, digest = known.checkpoints[-1]
            steps.say(
                f"process {process.pid} is gone. It last told that the state at position"
                f" {position:,} has the digest [cyan]{digest[:16]}[/]..."
            )
    return known


def come_back(steps: Steps, environment: dict[str, str], known: Known) -> None:
    """Start the control plane again, and have it prove that nothing is lost."""
    with ExitStack() as stack:
        with steps.step("The control plane comes back and rebuilds its state"):
            process = stack.enter_context(control_plane(environment, "resume"))
            assert process.stdin is not None
            process.stdin.write(known.as_json())
            process.stdin.close()
            told = lines(process)
            line = expect(told, "rebuilt")
            steps.say(
                f"process {process.pid}: {line['position']:,} events read and folded in"
                f" {line['seconds']:.2f} s"
            )
        with steps.step("It is the state from before"):
            line = expect(told, "same")
            steps.say(
                f"the digest at position {line['position']:,} is again"
                f" [cyan]{line['digest'][:16]}[/]..., and so it is at all"
                f" {line['checkpoints']} checkpoints before"
            )
            line = expect(told, "kept")
            steps.say(
                f"all {line['acknowledged']:,} acknowledged commands are in the log;"
                f" {line['unanswered']} had no answer yet: {line['appended']} of them are"
                " in the log as well"
            )
            line = expect(told, "state")
            steps.say(
                f"{line['dataplanes']} data planes, {line['ready']} of them ready"
            )
            line = expect(told, "wrote")
            steps.say(f"it goes on writing, at position {line['position']:,}")
        if process.wait() != 0:
            message = "the control plane did not end well"
            raise DemoError(message)


def look(steps: Steps, environment: dict[str, str], created_at: int) -> None:
    """Look at the log with the command that operators have."""
    with steps.step("Who changed what: the newest events"):
        steps.command(environment, "log", "--limit", "8")
    with steps.step("What alice did, and why"):
        steps.command(environment, "log", "--actor", "alice")
    checkout = ("MeshTimeout", "checkout", "--mesh", "shop")
    with steps.step("One resource as it was before that"):
        steps.command(environment, "get", *checkout, "--at", str(created_at))
    with steps.step("What changed in each of its versions"):
        steps.command(environment, "history", *checkout)
    with steps.step("A replay of the whole log, compared with what instances recorded"):
        steps.command(environment, "replay")


def demo(folder: Path) -> None:
    """Run all steps on a server in this folder."""
    steps = Steps()
    server = EmbeddedServer(folder / "postgres")
    try:
        with steps.step("A PostgreSQL starts in a folder of its own"):
            server.start()
            version = server.psql("SHOW server_version")
            steps.say(f"PostgreSQL {version} in {server.folder}")
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("KUMA_")
        } | {
            "KUMA_STORE_TYPE": "postgres",
            "KUMA_STORE_POSTGRES_HOST": server.host,
            "KUMA_STORE_POSTGRES_PORT": str(server.port),
            "KUMA_STORE_EVSTORE_HEARTBEAT_INTERVAL": HEARTBEAT,
        }
        if console.is_terminal:
            environment["FORCE_COLOR"] = "1"
        with steps.step("The database gets its tables"):
            steps.command(environment, "migrate", "up")
        known = work_and_crash(steps, environment)
        come_back(steps, environment, known)
        look(steps, environment, known.created_at)
        steps.finish()
    finally:
        # The rest is over in a moment, and must not be left half done.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        server.stop()


def main() -> int:
    """Run the demo; the exit code says whether all of it held."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Who runs PostgreSQL must be able to enter: it does not run as root.
    folder = Path(tempfile.mkdtemp(prefix="evstore-demo-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        demo(folder)
    except KeyboardInterrupt:
        console.print("\nstopped")
        return 130
    except (DemoError, StoreError) as error:
        console.print(f"\n[bold red]The demo failed:[/] {error}")
        return 1
    finally:
        remove(folder)
    return 0


def remove(folder: Path) -> None:
    """Remove a folder, into which a program may be writing its last file."""
    deadline = time.monotonic() + REMOVING_SECONDS_MAX
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
