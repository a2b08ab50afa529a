"""`evstore stats`: the figures, the charts, and the page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import pytest

from command import Command
from evstore.cli.output import charts

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config

EVIL: Final = "<script>alert(1)</script>&\"'"
VOID: Final = frozenset({"meta", "line", "rect", "polyline"})


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Command:
    return Command(postgres_config, tmp_path)


def created(type_: str, name: str) -> dict[str, Any]:
    return {"op": "create", "type": type_, "name": name, "spec": {}}


@pytest.fixture
def used(command: Command) -> Command:
    lines = [
        json.dumps({"time": time, "actor": actor, "changes": [change]}) + "\n"
        for time, actor, change in (
            (1_600_000_000, "al", created("Mesh", "a")),
            (1_600_000_001, "al", created("Zone", "z" * 200)),
            (1_600_100_000, EVIL, {"op": "delete", "type": "Mesh", "name": "a"}),
            (1_600_400_000, "al", created("Mesh", "a")),
        )
    ]
    command.write("a.jsonl", "".join(lines))
    assert command("import", "a.jsonl").code == 0
    return command


def test_the_figures_are_there_as_a_document(used: Command) -> None:
    (found,) = used("stats", "-o", "json").documents
    assert (found["first"], found["last"], found["head"]) == (1, 4, 4)
    assert found["first_at"] == "2020-09-13T12:26:40.000000Z"
    assert (found["days"], found["events_a_day"]) == (4.62963, 0.864)
    activity = found["activity"]
    assert (activity["events"], activity["transactions"]) == (4, 4)
    assert activity["types"]["Mesh"] == {
        "created": 2,
        "updated": 0,
        "deleted": 1,
        "redacted": 0,
    }
    assert activity["actors"][0] == {"actor": "al", "events": 3}
    assert [day["date"] for day in activity["days"]] == [
        "2020-09-13",
        "2020-09-14",
        "2020-09-18",
    ]
    storage = found["storage"]["partitions"][0]
    assert found["bytes_an_event"] == pytest.approx(
        (storage["table_bytes"] + storage["index_bytes"]) / 4
    )


def test_a_range_is_counted_alone(used: Command) -> None:
    words = ("stats", "--since", "2020-09-14", "--until", "2020-09-15", "-o", "json")
    (found,) = used(*words).documents
    assert (found["first"], found["last"]) == (3, 3)
    assert found["activity"]["actors"] == [{"actor": EVIL, "events": 1}]
    (none,) = used("stats", "--since", "4h", "-o", "json").documents
    assert (none["activity"]["events"], none["first_at"]) == (0, None)
    assert used("stats", "--since", "4h").out.splitlines()[1] == (
        "events  0 in 0 transactions"
    )


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_charts_fit_the_terminal(used: Command, width: int) -> None:
    out = used("stats", COLUMNS=str(width)).out
    assert max(map(len, out.splitlines())) <= width
    for text in ("events by day (UTC), 2 at most", "busiest actors", "z" * 20, "█"):
        assert text in out
    # A day without events is a gap, and not left out.
    columns = out.partition("at most\n")[2].splitlines()
    assert columns[0] == "███"
    assert columns[4] == "██████         ███"
    assert columns[5] == "2020-09-132020-09-18" or "to 2020-09-18" in columns[5]


def test_an_empty_log_has_no_charts(command: Command) -> None:
    out = command("stats", "--html", "page.html").out
    assert out.splitlines()[1] == "events  0 in 0 transactions"
    assert "<svg" not in (command.folder / "page.html").read_text()


class Page(HTMLParser):
    """Reads a page: its tags are closed, and what it loads is known."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "xlink:href", "srcset"}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_loads_nothing(used: Command) -> None:
    done = used("stats", "--html", "page.html")
    assert done.err == "the page is in page.html\n"
    text = (used.folder / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"https?:|url\(|@import", text)
    assert "prefers-color-scheme: dark" in text
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) == 6
    for plot in plots:
        root = ET.fromstring(plot)
        assert root.get("role") == "img"
        assert root.get("aria-label")
    assert text.count("<table>") == len(plots)


def test_names_on_the_page_are_only_text(used: Command) -> None:
    used("stats", "--html", "page.html")
    page = Page((used.folder / "page.html").read_text(encoding="utf-8"))
    assert EVIL in page.text


def test_bars_and_columns_show_all_that_is_not_nothing() -> None:
    assert charts.bar(0, 10, 8) == ""
    assert charts.bar(1, 1_000_000, 8) == "▏"
    assert charts.bar(10, 10, 8) == "█" * 8
    assert charts.bar(5, 10, 1) == "▌"
    assert charts.columns([0, 1, 1000], height=2, cell=1) == ["  █", " ▁█"]
    assert charts.columns([0, 0], height=1, cell=2) == [""]
    assert charts.fewer([1, 2, 3, 4, 5], 3) == [3, 7, 5]
    assert charts.fewer([1, 2], 3) == [1, 2]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (250_000, "250 kB"),
        (3e15, "3,000 TB"),
    ],
)
def test_sizes_are_for_people(count: float, text: str) -> None:
    assert charts.size(count) == text
