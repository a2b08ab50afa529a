"""`evstore apply`: make resources what files say, all in one transaction."""

from __future__ import annotations

import enum
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from .options import Actor, Output, Reason
from .output.tables import Format, print_document
from .session import UsageError, actor_of, config_of, open_store, run, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from evstore.model import Key, Resource
    from evstore.store.facade import Store
    from evstore.store.transaction import Transaction

    from .input.manifests import Manifest

_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


class Result(enum.StrEnum):
    """What applying a manifest makes of its resource."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


class Step(msgspec.Struct, frozen=True):
    """A manifest, and the resource that it finds."""

    manifest: Manifest
    current: Resource[Any] | None

    @property
    def result(self) -> Result:
        """What the manifest makes of it."""
        if self.current is None:
            return Result.CREATED
        return Result.UNCHANGED if self._same(self.current) else Result.UPDATED

    def _same(self, current: Resource[Any]) -> bool:
        from evstore.codec import canonical

        wanted = self.manifest
        status = current.status if wanted.status is None else wanted.status
        return canonical([wanted.spec, wanted.labels, status], "") == canonical(
            [current.spec, current.labels, current.status], ""
        )

    def add_to(self, tx: Transaction) -> None:
        """Add the change to a transaction; it holds for what was found only.

        Raises:
            InvalidError: the manifest can never be stored; names its place.
        """
        from evstore.errors import InvalidError

        wanted = self.manifest
        try:
            if self.current is None:
                tx.create(
                    wanted.key.type,
                    wanted.key.name,
                    mesh=wanted.key.mesh,
                    spec=wanted.spec,
                    status=wanted.status,
                    labels=wanted.labels,
                    owner=wanted.owner,
                )
            else:
                tx.update(
                    self.current,
                    spec=wanted.spec,
                    status=msgspec.UNSET if wanted.status is None else wanted.status,
                    labels=wanted.labels,
                )
        except InvalidError as error:
            raise InvalidError(f"{wanted.origin}: {error}") from None


def apply(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Option(
            "-f",
            "--file",
            metavar="FILE|DIR|-",
            help="Resource YAML or JSON, many documents a file; may be repeated.",
        ),
    ],
    actor: Actor = None,
    reason: Reason = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Create or update resources from YAML, all or none.

    The files hold Kuma's resources, one a document. A document has type, name, mesh, labels and spec; in the older form its spec is all
    the other keys. Labels that are not given are removed; the status stays unless
    given. Of a DIR, all .yaml, .yml and .json files in it and below are read, by name.
    Everything is one transaction: where one document is wrong, nothing is applied.
    """
    config = config_of(context)
    manifests = read_all(files)

    sending = threading.Event()

    async def work() -> None:
        async with open_store(config) as store:
            steps = await apply_all(
                store,
                manifests,
                actor=actor_of(config, actor),
                reason=reason,
                dry_run=dry_run,
                attempts=config.upsert.conflict_retry_max_times + 1,
                before_sending=sending.set,
            )
        for step, version in steps:
            _print_step(step, version, output, dry_run=dry_run)

    try:
        run(work)
    except KeyboardInterrupt:
        if sending.is_set():
            say("interrupted while it was sent: `evstore log` tells if it was applied")
        else:
            say("interrupted: nothing was applied")
        raise


async def apply_all(
    store: Store,
    manifests: Sequence[Manifest],
    *,
    actor: str,
    reason: str,
    dry_run: bool,
    attempts: int,
    before_sending: Callable[[], object] = bool,
) -> list[tuple[Step, int | None]]:
    """Apply manifests in one transaction; return each step with the version after it.

    Where somebody else changes one of the resources meanwhile, what to do is worked
    out anew.
    """
    from evstore.commit.arguments import Arguments
    from evstore.errors import AlreadyExistsError, ConflictError
    from evstore.store.transaction import Transaction

    while True:
        attempts -= 1
        steps = [Step(each, await _find(store, each.key)) for each in manifests]
        if dry_run:
            trial = Transaction(Arguments())
            for step in steps:
                step.add_to(trial)
            return [(step, None) for step in steps]
        try:
            async with store.transaction(actor=actor, reason=reason) as tx:
                for step in steps:
                    step.add_to(tx)
                before_sending()
        except (AlreadyExistsError, ConflictError):
            if not attempts:
                raise
        else:
            versions = [each.version if each else None for each in tx.results]
            return list(zip(steps, versions, strict=True))


async def _find(store: Store, key: Key) -> Resource[Any] | None:
    from evstore.errors import InvalidError, NotFoundError

    try:
        return await store.get(key.type, key.name, mesh=key.mesh)
    except (NotFoundError, InvalidError):  # the change itself names what is invalid
        return None


def read_all(sources: Sequence[str]) -> list[Manifest]:
    """Return all manifests of files, folders and standard input.

    Raises:
        UsageError: a source cannot be read.
        InvalidError: a document is wrong; names file, document and line.
    """
    from evstore.errors import InvalidError

    from .input.manifests import read_manifests, unique

    found = unique(
        manifest
        for name, content in _contents(sources)
        for manifest in read_manifests(content, name)
    )
    if not found:
        raise InvalidError(f"{', '.join(sources)}: there is no resource in it")
    return found


def _contents(sources: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for source in sources:
        if source == "-":
            yield "standard input", sys.stdin.buffer.read()
            continue
        path = Path(source)
        try:
            for file in _files(path) if path.is_dir() else [path]:
                yield str(file), file.read_bytes()
        except OSError as error:
            raise UsageError(f"{error.filename}: {error.strerror}") from error


def _files(folder: Path) -> list[Path]:
    """Return the files of resources in a folder and below, hidden ones left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in _SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _print_step(
    step: Step, version: int | None, output: Format, *, dry_run: bool
) -> None:
    from .output.documents import key_document

    if output is Format.TABLE:
        suffix = " (dry run)" if dry_run else ""
        print(f"{step.result.value:9} {step.manifest.key}{suffix}")
    else:
        key = key_document(step.manifest.key)
        result = {**key, "result": step.result.value, "version": version}
        print_document({**result, "dry_run": True} if dry_run else result, output)
