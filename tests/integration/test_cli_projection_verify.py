"""`evstore projection verify`: what is wrong, and by which event."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import pytest

import evstore
from evstore.codec import canonical
from evstore.folds import resources
from evstore.folds.resources import fold as fold_rightly
from evstore.log import Instance, open_log
from evstore.maintenance.programs import Program
from integration.ports_plane import NOW, app_of, fill, planned, store_snapshots, tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from command import Command
    from evstore import Config
    from evstore.model import Record, StoredEvent


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Iterator[Command]:
    with planned(postgres_config, tmp_path) as found:
        yield found


@pytest.fixture
def filled(postgres_config: Config) -> Config:
    anyio.run(fill, postgres_config)
    return postgres_config


def test_what_is_right_verifies(command: Command, filled: Config) -> None:
    anyio.run(store_snapshots, filled, app_of(command, "now"))
    done = command("projection", "verify", *NOW)
    assert (done.code, done.err.count("error")) == (0, done.err.count("stopped at"))
    (found,) = command("projection", "verify", *NOW, "-o", "json").documents
    assert found["ok"]
    assert [each["equal"] for each in found["projections"]] == [True] * 3
    assert found["projections"][0]["stored"] == 5
    (found,) = command("projection", "verify", "ports", *NOW, "-o", "json").documents
    assert [each["name"] for each in found["projections"]] == ["ports"]


def test_a_resource_that_a_start_has_wrong_is_named(
    command: Command, filled: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(previous: Record | None, event: StoredEvent) -> Record | None:
        """Do as the rule does, but for one update."""
        return previous if event.position == 3 else fold_rightly(previous, event)

    monkeypatch.setattr(resources, "fold", forgetful)
    anyio.run(store_snapshots, filled, None)
    monkeypatch.undo()
    before = tables(filled)
    done = command("projection", "verify")
    assert done.code == 1
    assert (
        "resources: a start comes to another state at position 5 than the log; the first"
        " that differs is Dataplane/m/web, which the event at position 3 should have set"
    ) in done.err
    (found,) = command("projection", "verify", "-o", "json").documents
    assert found["discrepancies"] == [
        {
            "projection": "resources",
            "position": 5,
            "instance": None,
            "what": "Dataplane/m/web",
            "event": 3,
        }
    ]
    assert tables(filled) == before


def test_a_body_that_no_digest_covers_is_compared_as_well(
    command: Command, filled: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With upcasters the digest is about what is stored, and not about what they make.
    app = app_of(command, "current")
    monkeypatch.setattr(
        "evstore.schemas.declared.step",
        lambda _link, body, *_: canonical({**body, "owner": None}, ""),
    )
    anyio.run(store_snapshots, filled, app)
    monkeypatch.undo()
    done = command("projection", "verify", "--app", "plane_of_cmd:current")
    assert done.code == 1
    assert "the first that differs is Dataplane/m/db" in done.err
    assert "which the event at position 2 should have set" in done.err


def test_a_member_that_a_start_has_wrong_is_named(
    command: Command, filled: Config
) -> None:
    app = app_of(command, "now")
    ports: Any = type(app.projections[0])
    rightly = ports.fold

    def forgetful(self: Any, state: Any, event: Any) -> Any:
        return state if event.position == 3 else rightly(self, state, event)

    ports.fold = forgetful
    anyio.run(store_snapshots, filled, app)
    ports.fold = rightly
    done = command("projection", "verify", *NOW)
    assert done.code == 1
    assert "the first that differs is /web/1, which the event at position 3" in done.err

    def eager(self: Any, state: Any, event: Any) -> Any:
        return {**rightly(self, state, event), "more": [event.position]}

    ports.fold = eager
    sys.modules["plane_of_cmd"].__dict__["Ports"].version = 7
    anyio.run(store_snapshots, filled, app)
    ports.fold = rightly
    done = command("projection", "verify", "ports", *NOW)
    assert done.code == 1
    assert (
        "the first that differs is /more/0; which event should have set it" in done.err
    )


def test_digests_of_instances_are_compared_where_the_replay_passes(
    command: Command, filled: Config
) -> None:
    async def digest_without(position: int) -> bytes:
        """Return the digest at position 4 of an instance that has missed an event."""
        async with open_log(filled) as log:
            origin = Program(None).begins(log)
            projections = origin.fresh()
            async for chunk in log.replay(after=0, until=4):
                projections.resources.apply(
                    [event for event in chunk if event.position != position]
                )
            return projections.resources.digest()

    async def work() -> list[Instance]:
        right = await digest_without(99)
        missed = await digest_without(3)
        beats = [
            Instance(id=uuid4(), position=4, digest=digest, code_version="test")
            for digest in (right, missed, b"x" * 32)
        ]
        other = Instance(
            id=uuid4(),
            position=4,
            digest=b"y" * 32,
            code_version="test",
            projections=("resources:99:",),
        )
        async with open_log(filled) as log:
            for each in (*beats, other):
                await log.beat(each)
        return beats

    right, missed, odd = anyio.run(work)
    done = command("projection", "verify", "-o", "json")
    (found,) = done.documents
    assert {*found["compared"]} == {str(each.id) for each in (right, missed, odd)}
    told = {each["instance"]: each for each in found["discrepancies"]}
    assert told.keys() == {str(missed.id), str(odd.id)}
    assert (told[str(missed.id)]["what"], told[str(missed.id)]["event"]) == (
        "Dataplane/m/web",
        3,
    )
    assert (told[str(odd.id)]["what"], told[str(odd.id)]["event"]) == (None, None)
    assert done.code == 1
    assert "what differs cannot be told from the digest" in done.err
    assert (
        "3 of running instances: 1 equal, 2 different"
        in command("projection", "verify").out
    )
    # Of other projections heartbeats tell nothing.
    assert command("projection", "verify", "ports", *NOW).code == 0


def test_one_that_stops_only_after_a_start_is_told(
    command: Command, filled: Config
) -> None:
    app = app_of(command, "now")
    touchy: Any = type(app.projections[1])
    rightly = touchy.fold
    touchy.fold = lambda _self, state, _event: state + 1
    anyio.run(store_snapshots, filled, app)
    touchy.fold = rightly
    done = command("projection", "verify", "touchy", *NOW)
    assert done.code == 1
    assert "the first that differs is whether it runs" in done.err
    assert "the event at position 5" in done.err


@pytest.mark.usefixtures("filled")
def test_a_state_of_another_type_has_stopped_in_both(command: Command) -> None:
    words = ("projection", "verify", "odd", "--app", "plane_of_cmd:mistyped")
    done = command(*words, "-o", "json")
    assert (done.code, done.err) == (0, "")
    (one,) = done.documents[0]["projections"]
    assert (one["equal"], one["digest"]) == (True, None)
    assert one["stopped"]["cause"].startswith("the state is no int")


def test_what_was_redacted_verifies(command: Command, filled: Config) -> None:
    async def redact() -> None:
        async with evstore.open(filled) as store:
            await store.redact("Secret", "key", mesh="m", version=4, reason="leaked")

    anyio.run(store_snapshots, filled, app_of(command, "now"))
    anyio.run(redact)
    done = command("projection", "verify", *NOW, "-o", "json")
    assert (done.code, done.err) == (0, "")
    (found,) = done.documents
    # Nothing starts from before it.
    assert [each["stored"] for each in found["projections"]] == [None] * 3
