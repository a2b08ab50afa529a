"""`evstore verify` and `anchor`: is the log what was once appended?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .input import keyring
from .options import Output
from .output.documents import rfc3339
from .output.progress import progress
from .output.tables import Format, print_document, printable
from .session import UsageError, config_of, quiet, run, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evstore.anchors import Anchor
    from evstore.proof.chain import Redacted, Verification

# Of many anchors each may have something to say, and the first ones say it all.
_ERRORS_SHOWN_MAX: Final = 10


def verify(
    context: typer.Context,
    anchor: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Anchors to hold against the log, one a line; may be repeated.",
        ),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Public key (PEM) that signed the anchors; without it, your own.",
        ),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Verify that the log is what was once appended.

    Recomputes the chain of hashes from the first event. Names the first place where it does not hold and what was done
    there, and ends with exit code 1. That the end was cut or all of it was made anew, only anchors show.
    """
    from evstore.log import open_to_verify
    from evstore.proof.chain import verify as verify_

    config = config_of(context)
    if trust is not None and not anchor:
        raise UsageError("--trust is for the anchors of --anchor")
    anchors, wrong = read_anchors(anchor or [], trust)

    async def work() -> Verification:
        async with open_to_verify(quiet(config)) as log:
            total = (await log.head()).position
            with progress("verifying", total=total, unit="events") as advance:
                return await verify_(log, anchors=anchors, advance=advance)

    found = run(work)
    if output is Format.TABLE:
        print("\n".join(_summary(found, given=len(anchors))))
    else:
        print_document(_document(found), output)
    for line in _warnings(found):
        say(f"warning: {line}")
    errors = [*wrong, *(each.text for each in found.findings)]
    for text in errors[:_ERRORS_SHOWN_MAX]:
        say(f"error: {text}")
    if len(errors) > _ERRORS_SHOWN_MAX:
        say(f"error: and {len(errors) - _ERRORS_SHOWN_MAX:,} more")
    if wrong or not found.ok:
        raise typer.Exit(1)


def anchor(
    context: typer.Context,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Private key (PEM, Ed25519) to sign with; without it, your own.",
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the passphrase of --key."),
    ] = None,
    public: Annotated[
        bool,
        typer.Option("--public", help="Print the public key instead, for --trust."),
    ] = False,
) -> None:
    """Sign the head of the log, to be kept elsewhere.

    One line of JSON on standard output: the log's identity, the head's position and hash, the time, and a signature.
    Without --key, a key pair of your own is made once, in your configuration folder.
    """
    from evstore.anchors import public_pem
    from evstore.maintenance import anchor as anchor_

    if passphrase_file is not None and key is None:
        raise UsageError("--passphrase-file is for the key of --key")
    private = keyring.private_key(key, passphrase_file)
    if public:
        print(public_pem(private.public_key()), end="")
        return
    config = quiet(config_of(context))
    print(run(lambda: anchor_(config, private)).encode())


def read_anchors(
    files: list[Path], trust: Path | None
) -> tuple[list[Anchor], list[str]]:
    """Return the anchors of files, and what is wrong with the others.

    Raises:
        UsageError: there is no key to trust, or a file has no anchor.
    """
    from evstore.anchors import read
    from evstore.errors import InvalidError

    found: list[Anchor] = []
    wrong: list[str] = []
    if not files:
        return found, wrong
    key = keyring.trusted_key(trust)
    for path in files:
        lines = path.read_bytes().splitlines()
        if not any(line.strip() for line in lines):
            wrong.append(f"{path}: there is no anchor in it")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                found.append(read(line, key))
            except InvalidError as error:
                wrong.append(f"{path}, line {number}: {error}")
    return found, wrong


def _summary(found: Verification, *, given: int) -> Iterator[str]:
    yield f"log       {found.log}"
    yield f"events    {found.head:,}"
    yield f"head      {found.hash.hex()}"
    yield f"time      {found.seconds:.3f} s"
    yield f"rate      {_rate(found):,.0f} events/s"
    yield f"anchors   {_anchored(found, given)}"
    for each in found.redactions:
        yield f"redacted  {_redacted(each)}"
    yield f"verdict   {'the chain holds' if found.ok else found.findings[0].kind.value}"


def _anchored(found: Verification, given: int) -> str:
    if not given:
        return "none: that the end was cut or all was made anew would not show"
    if found.anchored is None:
        return "none holds"
    left = found.head - found.anchored
    return f"up to position {found.anchored}; {left:,} events follow"


def _redacted(each: Redacted) -> str:
    fields = ", ".join(each.fields)
    by = f"by {each.actor}" if each.actor else "by nobody named"
    text = f"position {each.position}, {each.key}: {fields}; {by}, at {each.announced}"
    return printable(text)


def _warnings(found: Verification) -> Iterator[str]:
    for each in found.unfinished:
        yield f"announced and not done, redact it again: {_redacted(each)}"
    for reason in found.unguarded:
        yield f"{reason}: nothing keeps events from changing"


def _rate(found: Verification) -> float:
    return found.head / found.seconds if found.seconds else 0.0


def _document(found: Verification) -> dict[str, Any]:
    return {
        "log": str(found.log),
        "events": found.head,
        "hash": found.hash.hex(),
        "seconds": round(found.seconds, 6),
        "events_per_second": round(_rate(found)),
        "ok": found.ok,
        "anchored": found.anchored,
        "findings": [
            {
                "kind": each.kind.value,
                "position": each.position,
                "last": each.last,
                "column": each.column,
                "text": each.text,
            }
            for each in found.findings
        ],
        "redactions": [_redaction_document(each) for each in found.redactions],
        "unfinished": [_redaction_document(each) for each in found.unfinished],
        "unguarded": found.unguarded,
    }


def _redaction_document(each: Redacted) -> dict[str, Any]:
    from evstore.clock import to_datetime

    return {
        "position": each.position,
        "key": each.key,
        "fields": list(each.fields),
        "announced": each.announced,
        "recorded_at": rfc3339(to_datetime(each.time)),
        "actor": each.actor,
    }
