"""The queue of commands: bounded, in order, and nothing forgotten in its count."""

from __future__ import annotations

import asyncio  # noqa: TID251 - answers are futures

import pytest

from evstore import UnavailableError
from evstore.clock import boot_microseconds
from evstore.commit.batch import Pending
from evstore.commit.changes import Command, Create
from evstore.commit.waiting import Waiting
from evstore.config import Limits

SIZE = len(b"{}") + len(b"null") + len(b"{}")


def pending(name: str, *, spec: bytes = b"{}", seconds: float = 60) -> Pending:
    return Pending(
        Command(changes=(Create(key=f"Mesh//{name}", spec=spec),)),
        asyncio.get_running_loop().create_future(),
        boot_microseconds() + int(seconds * 1e6),
    )


def names(batch: list[Pending]) -> str:
    return "".join(each.command.changes[0].key[-1] for each in batch)


def filled(letters: str, **limits: int) -> Waiting:
    queue = Waiting(Limits(**limits))
    for letter in letters:
        queue.put(pending(letter))
    return queue


async def test_commands_are_taken_in_the_order_in_which_they_came() -> None:
    queue = filled("abcd")
    assert names(queue.take(3)) == "abc"
    assert names(queue.take(3)) == "d"
    assert queue.take(3) == []


async def test_what_is_put_back_comes_first() -> None:
    queue = filled("abcd")
    batch = queue.take(3)
    queue.put_back(batch[1:])
    assert names(queue.take(4)) == "bcd"


async def test_a_command_that_goes_alone_is_taken_alone() -> None:
    queue = filled("abcd")
    batch = queue.take(4)
    batch[1].alone = True
    queue.put_back(batch)
    assert not queue.next_alone
    assert names(queue.take(4)) == "a"
    assert queue.next_alone
    assert names(queue.take(4)) == "b"
    assert names(queue.take(4)) == "cd"


async def test_commands_whose_callers_have_gone_are_dropped() -> None:
    queue = filled("abc")
    batch = queue.take(3)
    batch[1].answer.cancel()
    queue.put_back(batch)
    assert names(queue.take(3)) == "ac"


async def test_too_many_commands_are_refused() -> None:
    queue = filled("abc", queue_commands_max=3)
    with pytest.raises(UnavailableError, match="try again") as caught:
        queue.put(pending("d"))
    assert caught.value.retryable
    assert names(queue.take(1)) == "a"
    queue.put(pending("d"))
    assert names(queue.take(9)) == "bcd"


async def test_too_many_bytes_are_refused() -> None:
    queue = filled("abc", queue_bytes_max=4 * SIZE)
    with pytest.raises(UnavailableError, match="try again"):
        queue.put(pending("d", spec=b'{"long":"' + b"x" * 2 * SIZE + b'"}'))
    queue.put(pending("e"))
    with pytest.raises(UnavailableError):
        queue.put(pending("f"))


async def test_one_command_may_wait_however_large_it_is() -> None:
    queue = filled("", queue_bytes_max=1)
    queue.put(pending("a"))
    with pytest.raises(UnavailableError):
        queue.put(pending("b"))


async def test_bytes_are_counted_for_what_waits_and_nothing_else() -> None:
    queue = filled("abcd", queue_bytes_max=4 * SIZE)
    batch = queue.take(2)
    queue.put_back(batch[1:])
    queue.put(pending("e"))  # instead of a
    with pytest.raises(UnavailableError):
        queue.put(pending("f"))
    queue.clear()
    for letter in "ghij":
        queue.put(pending(letter))
    assert names(queue.take(9)) == "ghij"


async def test_what_is_overdue_is_taken_out() -> None:
    queue = Waiting(Limits(queue_bytes_max=2 * SIZE))
    queue.put(pending("a", seconds=-1))
    queue.put(pending("b"))
    assert names(queue.take_overdue()) == "a"
    assert queue.take_overdue() == []
    queue.put(pending("c"))
    assert names(queue.take(9)) == "bc"
