"""The format of an import: lines, and which of them are in the log already."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from evstore.errors import InvalidError
from evstore.transfer import interchange
from evstore.transfer.interchange import Line, Operation, Remaining, read_lines

CREATE = {"op": "create", "type": "Mesh", "mesh": "", "name": "a", "spec": {}}
UPDATE = {**CREATE, "op": "update"}


def line(number: int, *changes: dict[str, Any]) -> Line:
    return Line(number, json.dumps({"time": number, "changes": changes}).encode())


def test_a_line_is_a_transaction() -> None:
    content = {"time": 1.5, "actor": "al", "reason": "why", "changes": [CREATE]}
    found = Line(1, json.dumps(content).encode()).decode()
    assert (found.time, found.actor, found.reason) == (1_500_000, "al", "why")
    (change,) = found.changes
    assert (change.operation, change.key.text) == (Operation.CREATE, "Mesh//a")
    assert change.labels is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is not an object"),
        (
            "{",
            "not JSON: Expecting property name enclosed in double quotes at column 2",
        ),
        ('{"time": 1}', "changes: is missing"),
        ('{"changes": []}', "changes: is empty"),
        ('{"changes": [1]}', "changes[0]: is not an object"),
        ('{"changes": [], "x": 1}', "x: is not a member of the format"),
        ('{"time": "1", "changes": [{}]}', "time: is not a number"),
        ('{"time": true, "changes": [{}]}', "time: is not a number"),
        ('{"time": -1, "changes": [{}]}', "time: -1 is not in seconds since 1970"),
        ('{"time": 1e300, "changes": [{}]}', "is not in seconds"),
        ('{"time": NaN, "changes": [{}]}', "NaN is not JSON"),
        ('{"actor": 1, "changes": [{}]}', "actor: is not text"),
        ('{"changes": [{"op": "x"}]}', "changes[0].op: 'x' is not create, update"),
        ('{"changes": [{"op": "create"}]}', "changes[0].type: is missing"),
        (
            '{"changes": [{"op": "create", "type": "A", "name": "a"}]}',
            "changes[0].spec: is missing",
        ),
        (
            '{"changes": [{"op": "delete", "type": "A", "name": "a", "spec": {}}]}',
            "changes[0].spec: is not a member",
        ),
        ('{"actor": "a", "actor": "b", "changes": [{}]}', "'actor' stands twice"),
    ],
)
def test_a_bad_line_is_refused_with_the_place(content: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Line(7, content.encode()).decode()
    assert message in str(caught.value)


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidError, match=r"is not UTF-8 text \(byte 2\)"):
        Line(1, b'"\xff"').decode()


def test_blank_lines_count_and_are_left_out() -> None:
    found = read_lines(io.BytesIO(b"{}\n\n  \r\n[]").readline)
    assert [(each.number, each.content) for each in found] == [(1, b"{}"), (4, b"[]")]


def test_a_line_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interchange, "LINE_BYTES_MAX", 5)
    assert len(list(read_lines(io.BytesIO(b"1234\n12345").readline))) == 2
    with pytest.raises(InvalidError, match="line 2: is longer than 5 bytes"):
        list(read_lines(io.BytesIO(b"{}\n123456\n").readline))


def test_the_request_id_is_of_number_and_content() -> None:
    ids = {
        Line(1, b"{}").request_id,
        Line(2, b"{}").request_id,
        Line(1, b"[]").request_id,
    }
    assert len(ids) == 3
    assert Line(1, b"{}").request_id == Line(1, b"{}").request_id


LINES = [line(1, CREATE), line(2, UPDATE), line(3, UPDATE), line(4, CREATE)]
IDS = [each.request_id for each in LINES]


@pytest.mark.parametrize(
    ("known", "left"),
    [
        ([], [1, 2, 3, 4]),
        ([1], [2, 3, 4]),
        ([1, 2, 3, 4], []),
        # Updates without effect leave no trace; what is behind them tells.
        ([1, 4], []),
        ([1, 3], [4]),
    ],
)
def test_what_is_in_the_log_is_skipped(known: list[int], left: list[int]) -> None:
    remaining = Remaining({IDS[number - 1] for number in known})
    assert [each.number for each in remaining.of(LINES)] == left
    assert remaining.skipped == 4 - len(left)


def test_a_file_that_has_changed_since_is_refused() -> None:
    remaining = Remaining({IDS[3]}).of(LINES)
    with pytest.raises(InvalidError, match=r"^line 4: .* but line 1 before it was not"):
        list(remaining)
