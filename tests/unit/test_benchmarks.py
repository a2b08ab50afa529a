"""The parts of the benchmarks that compute: figures, aims, the page that is made."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The scripts import each other by their bare names, and only for this test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def figures():
    return importlib.import_module("figures")


@pytest.fixture
def document():
    return importlib.import_module("document")


def result(figures, **more):
    return {
        "question": "how fast?",
        "quick": False,
        "command": "python benchmarks/append.py",
        "machine": "2 cores, Linux, Python 3.11, fdatasync of 8 KiB 0.10 ms",
        "settings": {"fsync": "on"},
        "commit": "abc",
        "results": [
            {
                "what": "evstore",
                "changes/s": figures.plain(figures.Figure.of([1, 3, 2])),
            }
        ],
        "aims": [figures.plain(figures.Aim("beside Kuma", 10, 9.5))],
        "notes": ["a | b"],
        **more,
    }


def test_a_figure_is_the_median_with_its_spread(figures):
    figure = figures.Figure.of([30.0, 10.0, 20.0])
    assert figure == figures.Figure(20.0, 10.0, 30.0, 3)
    assert str(figure) == "20 (10 to 30)"
    assert str(figures.Figure.of([1234.5])) == "1,234"


def test_a_figure_looks_the_same_out_of_json(figures):
    figure = figures.Figure.of([1.23456789, 2.0, 3000.0])
    read = json.loads(json.dumps(figures.plain(figure)))
    assert figures.text(read) == figures.text(figure) == "2 (1.23 to 3,000)"


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)]
)
def test_a_percentile_is_one_of_the_values(figures, share, value):
    assert figures.percentile(range(100, 0, -1), share) == value


def test_ratios_are_taken_round_by_round(figures):
    # The machine was twice as fast in the second round, for both.
    assert figures.ratios([10, 20], [5, 10]) == figures.Figure(2.0, 2.0, 2.0, 2)


@pytest.mark.parametrize(
    ("times", "gap"),
    [
        ([], 10),
        ([5], 5),
        ([1, 2, 3], 7),  # silent until the end
        ([4, 9], 5),
        ([9, 4, 6], 4),  # in any order
        ([-3, 5, 12], 5),  # what lies outside does not count
    ],
)
def test_the_longest_gap_counts_both_ends(figures, times, gap):
    assert figures.longest_gap(times, began=0, ended=10) == gap


@pytest.mark.parametrize(
    ("measured", "at_most", "reached"),
    [
        (10, False, True),
        (9.99, False, False),
        (10, True, True),
        (10.01, True, False),
        (None, False, None),
        (None, True, None),
    ],
)
def test_an_aim_is_reached_at_its_bound(figures, measured, at_most, reached):
    assert figures.Aim("x", 10, measured, at_most=at_most).reached is reached


def test_the_page_has_aims_tables_and_commands(figures, document):
    page = document.document(
        "# Title\n\n{{circumstances}}\n\n{{aims}}\n\n{{append}}\n",
        {"append": result(figures)},
        {"append": "benchmarks/append.svg"},
    )
    lines = page.splitlines()
    assert "| evstore | 2 (1 to 3) |" in lines
    assert (
        "| beside Kuma | at least 10 x | 9.5 x | **not reached** |"
        " `python benchmarks/append.py` |" in lines
    )
    assert "- 2 cores, Linux, Python 3.11. fsync on." in lines
    assert "- fdatasync of 8 KiB 0.10 ms when the first benchmark ended." in lines
    assert "![how fast?](benchmarks/append.svg)" in lines
    assert "Quick" not in page


def test_a_quick_run_says_so_at_the_top(figures, document):
    results = {"append": result(figures, quick=True)}
    template = "# Title\n\nText. {{circumstances}}{{aims}}{{append}}\n"
    page = document.document(template, results, {})
    assert page.startswith("# Title\n\n> **Quick run: these are no measurements.**")


def test_what_failed_is_not_hidden(document):
    failed = {"failed": "no disk", "command": "python benchmarks/growth.py"}
    page = document.section("growth", failed, {})
    assert page == "Not measured: `python benchmarks/growth.py` failed: no disk"


def test_template_and_benchmarks_name_each_other(figures, document):
    with pytest.raises(KeyError, match="missing"):
        document.document("# T\n\n{{aims}}{{circumstances}}{{missing}}", {}, {})
    with pytest.raises(KeyError, match="append"):
        document.document(
            "# T\n\n{{aims}}{{circumstances}}", {"append": result(figures)}, {}
        )
    # The template that is used has a place for every script.
    source = ast.parse((BENCHMARKS / "run_all.py").read_text())
    scripts = next(
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SCRIPTS"
    )
    results = {name: result(figures) for name in scripts}
    template = (BENCHMARKS / "document.md").read_text()
    assert "{{" not in document.document(template, results, {})
    assert all((BENCHMARKS / f"{name}.py").exists() for name in scripts)


def test_a_cell_cannot_break_its_table(document):
    assert document.table(["a"], [["x|y"]]).splitlines()[-1] == "| x\\|y |"
