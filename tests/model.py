"""What a store must do, said again as plainly as can be: dicts, copied at each step.

It knows nothing of logs, folds or JSON, and shares no code with the store.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from evstore import (
    AlreadyExistsError,
    ConflictError,
    Key,
    NotFoundError,
    StoreError,
)

Spec = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A resource as the model has it."""

    spec: Spec
    status: Spec | None
    labels: dict[str, str]
    owner: Key | None
    version: int
    created_version: int


@dataclass(frozen=True)
class Creation:
    key: Key
    spec: Spec
    status: Spec | None = None
    labels: dict[str, str] = field(default_factory=dict)
    owner: Key | None = None
    incarnation: int | None = None


@dataclass(frozen=True)
class Change:
    """An update; what is None stays, and `version` None means any."""

    key: Key
    version: int | None = None
    spec: Spec | None = None
    status: Spec | None = None
    labels: dict[str, str] | None = None


@dataclass(frozen=True)
class Deletion:
    key: Key
    version: int | None = None


Step = Creation | Change | Deletion
Refusal = type[StoreError]


class Model:
    """The state after each position, and what happened there."""

    def __init__(self) -> None:
        self.states: list[dict[Key, Entry]] = [{}]
        self.events: list[tuple[str, Key]] = []
        self.commits: list[int] = [0]

    @property
    def state(self) -> dict[Key, Entry]:
        return self.states[-1]

    @property
    def position(self) -> int:
        return len(self.events)

    def at(self, position: int) -> dict[Key, Entry]:
        """Return the state at a position, rounded up to its transaction's end."""
        return self.states[self.commits[position]]

    def transact(self, steps: list[Step]) -> Refusal | None:
        """Do all of the steps; or say why none of them is done."""
        before = self.state
        now = deepcopy(before)
        events: list[tuple[str, Key]] = []
        for step in steps:
            refusal = self._step(step, before, now, events)
            if refusal is not None:
                return refusal
        commit = self.position + len(events)
        self.states += [now] * len(events)
        self.commits += [commit] * len(events)
        self.events += events
        return None

    def _step(
        self,
        step: Step,
        before: dict[Key, Entry],
        now: dict[Key, Entry],
        events: list[tuple[str, Key]],
    ) -> Refusal | None:
        match step:
            case Creation():
                return self._create(step, now, events)
            case Change() | Deletion():
                was = before.get(step.key)
                if step.version is not None:
                    if was is None or was.version != step.version:
                        return ConflictError
                    if step.key not in now:
                        return ConflictError
                if step.key not in now:
                    return NotFoundError
                if isinstance(step, Change):
                    self._update(step, now, events)
                else:
                    self._delete(step.key, now, events)
        return None

    def _create(
        self, step: Creation, now: dict[Key, Entry], events: list[tuple[str, Key]]
    ) -> Refusal | None:
        if step.key in now:
            return AlreadyExistsError
        if step.owner is not None:
            owner = now.get(step.owner)
            if owner is None:
                return NotFoundError
            if step.incarnation not in (None, owner.created_version):
                return NotFoundError
        events.append(("created", step.key))
        position = self.position + len(events)
        now[step.key] = Entry(
            step.spec, step.status, step.labels, step.owner, position, position
        )
        return None

    def _update(
        self, step: Change, now: dict[Key, Entry], events: list[tuple[str, Key]]
    ) -> None:
        entry = now[step.key]
        changed = replace(
            entry,
            spec=entry.spec if step.spec is None else step.spec,
            status=entry.status if step.status is None else step.status,
            labels=entry.labels if step.labels is None else step.labels,
        )
        if repr(changed) != repr(entry):  # 1 and 1.0 are equal, and different values
            events.append(("updated", step.key))
            version = self.position + len(events)
            now[step.key] = replace(changed, version=version)

    def _delete(
        self, key: Key, now: dict[Key, Entry], events: list[tuple[str, Key]]
    ) -> None:
        for other in sorted(now):
            if other in now and now[other].owner == key:
                self._delete(other, now, events)
        del now[key]
        events.append(("deleted", key))
