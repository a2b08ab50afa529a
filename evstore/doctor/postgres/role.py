"""What is to be said of our role, and of the guards of the log. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.doctor.checks import Check, fail, ok, warn
from evstore.doctor.words import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .facts import Rights

_OTHER_ROLE: Final = 'run the store as another role, see "evstore migrate grant"'


def rights(rights: Rights) -> Check:
    """Judge whether the role has what it needs, and no more."""
    role = f"role {rights.role}"
    if rights.missing:
        found = f"{role} lacks {listed(rights.missing)}"
        advice = f'run "evstore migrate grant {rights.role} --apply" as the owner'
        return fail("rights", found, advice)
    if rights.superuser:
        found = f"{role} is a superuser: nothing guards the log from it"
        return warn("rights", found, _OTHER_ROLE)
    if rights.owner:
        found = f"{role} owns the log: it could drop the triggers that guard it"
        return warn("rights", found, _OTHER_ROLE)
    if rights.beyond:
        found = f"{role} has more than it needs: {listed(rights.beyond)}"
        return warn("rights", found, "REVOKE what it does not need")
    return ok("rights", f"{role} has what it needs, and no more")


def unguarded(triggers: Sequence[str]) -> Check:
    """Judge whether the triggers are there that keep the log append-only."""
    if not triggers:
        return ok("append-only", "all triggers are in place")
    found = f"missing, switched off or changed: trigger {listed(triggers)}"
    advice = 'make them again as migration 1 does, then run "evstore verify"'
    return fail("append-only", found, advice)
