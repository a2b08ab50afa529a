"""Integrity: what a store does to prove its record, and to take a secret out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.errors import InvalidError
from evstore.proof.chain import Verification, verify
from evstore.proof.redactor import Redaction, Redactor
from evstore.redaction import pointer

from .queries import Queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evstore.anchors import Anchor
    from evstore.commit.arguments import Typed
    from evstore.commit.changes import Redact


class Integrity(Queries):
    """All of a store that is about the record itself."""

    async def verify(self, *, anchors: Sequence[Anchor] = ()) -> Verification:
        """Verify the log from its first event to its head: the chain of hashes again.

        Reads what is stored and nothing of this instance's state. Where something is
        wrong, `Verification.findings` says what. A log that is damaged may not open as
        a store at all: `evstore.maintenance.verify` needs none.

        Args:
            anchors: places that were signed earlier, as `evstore.anchors.read` returns
                them. Only these show that the end was cut, or all made anew.

        Raises:
            UnavailableError: the log cannot be read.
        """
        return await verify(self._stored, anchors=anchors)

    async def redact(  # noqa: PLR0913 - what goes, and who and why
        self,
        type: Typed,  # noqa: A002
        name: str,
        *,
        mesh: str = "",
        version: int,
        fields: Iterable[str] = (),
        everywhere: bool = False,
        actor: str | None = None,
        reason: str,
    ) -> Redaction:
        """Take a secret out of what is stored, for good: of one version of a resource.

        An event of its own says who, when, why and what; then the body is replaced.
        Version, hash and state digest stay, and the log still verifies. Where the call
        fails in between, make it again: it goes on where it was.

        Args:
            type: name of the type, or a struct type given to `open`.
            name: name of the resource; it may be deleted by now.
            mesh: mesh of the resource; "" for global types.
            version: the position of the event that has the secret.
            fields: what goes: `spec.users[0].password`, or a JSON Pointer. Without any,
                spec, status and labels; the owner stays. They are those of the body as
                it is stored, in the event's `schema_version`.
            everywhere: of all other versions as well that have an equal value there.
            actor: who; the default is that of every write.
            reason: why; it must not be empty, nor hold the secret.

        Raises:
            NotFoundError: the resource has no such version.
            InvalidError: the version has nothing there, or an argument is wrong.
            ConfigError: our role does not own the tables. Nothing was done.
            SchemaError: an upcaster of this program fails for what would be left.
                Nothing was done.
            UnavailableError: the log cannot be reached, or others redact the same.
        """
        key = self._arguments.key(type, name, mesh)
        if not reason:
            raise InvalidError("must say why", path="reason")
        pointers = [pointer(each) for each in fields]
        # Checked before anything is read: what is wrong is told first.
        self._arguments.command([], actor=actor, reason=reason, request_id=None)

        async def announce(changes: Sequence[Redact]) -> None:
            await self._committer.submit(
                self._arguments.command(
                    changes, actor=actor, reason=reason, request_id=None
                )
            )

        redactor = Redactor(self._stored, key, announce, self._schemas)
        return await redactor.redact(version, pointers, everywhere=everywhere)
