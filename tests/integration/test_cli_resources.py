"""`evstore apply`, `get`, `list` and `delete`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from command import Command

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config

MESH = "type: Mesh\nname: default\n"
WEB = """\
type: Dataplane
name: web
labels: {team: web}
spec:
  networking: {address: 10.0.0.1, weight: 1.0}
"""
TOKEN = "type: Secret\nname: token\nspec: {data: c2VjcmV0}\n"


@pytest.fixture
def command(postgres_config: Config, tmp_path: Path) -> Command:
    return Command(postgres_config, tmp_path)


@pytest.fixture
def applied(command: Command) -> Command:
    """Return the command on a store with a mesh, a data plane and a secret."""
    command.write("all.yaml", f"{MESH}---\n{WEB}---\n{TOKEN}")
    assert (
        command("apply", "-f", "all.yaml", "--actor", "al", "--reason", "r").code == 0
    )
    return command


def head(command: Command) -> int:
    return len(command("log", "-o", "json").documents)


def test_apply_says_what_it_makes_of_each_resource(applied: Command) -> None:
    applied.write("all.yaml", f"{MESH}---\n{WEB.replace('0.1', '0.2')}---\n{TOKEN}")
    applied.write("new.json", '{"type": "Zone", "name": "east", "enabled": true}')
    done = applied("apply", "-f", "all.yaml", "-f", "new.json")
    assert done == (
        0,
        (
            "unchanged Mesh default\n"
            "updated   Dataplane web in mesh default\n"
            "unchanged Secret token in mesh default\n"
            "created   Zone east\n"
        ),
        "",
    )
    events = applied("log", "-o", "json").documents
    assert [event["commit"] for event in events] == [3, 3, 3, 5, 5]
    assert (events[0]["actor"], events[0]["reason"]) == ("al", "r")


def test_apply_reads_a_folder_and_standard_input(command: Command) -> None:
    command.write("d/b.yml", WEB)
    command.write("d/a.yaml", MESH)
    command.write("d/below/c.json", '{"type": "Zone", "name": "east"}')
    command.write("d/.hidden.yaml", "no")
    command.write("d/readme.txt", "no")
    assert command("apply", "-f", "d", "-o", "json").documents == [
        {
            "type": "Mesh",
            "mesh": "",
            "name": "default",
            "result": "created",
            "version": 1,
        },
        {
            "type": "Dataplane",
            "mesh": "default",
            "name": "web",
            "result": "created",
            "version": 2,
        },
        {"type": "Zone", "mesh": "", "name": "east", "result": "created", "version": 3},
    ]
    assert command("apply", "-f", "-", stdin=WEB).out.startswith("unchanged Dataplane")


def test_apply_compares_values_and_not_their_spelling(applied: Command) -> None:
    text = '{"spec":{"networking":{"weight":1.0,"address":"10.0.0.1"}},"labels":{"team":"web"},"name":"web","type":"Dataplane"}'
    assert applied("apply", "-f", "-", stdin=text).out.startswith("unchanged")
    text = text.replace("1.0,", "1,")
    assert applied("apply", "-f", "-", stdin=text).out.startswith("updated")


def test_labels_that_are_left_out_are_removed_and_the_status_stays(
    applied: Command,
) -> None:
    status = WEB + "status: {ready: true}\n"
    assert applied("apply", "-f", "-", stdin=status).out.startswith("updated")
    bare = WEB.replace("labels: {team: web}\n", "")
    assert applied("apply", "-f", "-", stdin=bare).out.startswith("updated")
    (found,) = applied("get", "Dataplane", "web", "-o", "json").documents
    assert (found["labels"], found["status"]) == ({}, {"ready": True})


def test_a_dry_run_applies_nothing(applied: Command) -> None:
    changed = WEB.replace("0.1", "0.2")
    done = applied("apply", "-f", "-", "--dry-run", stdin=changed)
    assert done.out == "updated   Dataplane web in mesh default (dry run)\n"
    assert head(applied) == 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("type: Mesh\nname: Wrong\n", "bad.yaml: document 2, line 7: name: 'Wrong'"),
        ("type: Mesh\nname: a\na: .nan\n", "bad.yaml: document 2, line 9: .nan"),
        ("type: Mesh\nname: a\na: 1\na: 2\n", "bad.yaml: document 2, line 10: the key"),
        (
            "type: Mesh\nname: a\nb: \xff\n",
            "bad.yaml: document 2, line 9: is not UTF-8",
        ),
        ("type: Mesh\nname: a\nb: 99999999999999999999\n", "beyond 64 bits"),
        ("type: Mesh\nname: a\nspec: []\n", "bad.yaml: document 2, line 9: spec"),
        (f"{WEB}", "Dataplane web in mesh default stands twice, first in bad.yaml"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_where_one_document_is_wrong_nothing_is_applied(
    command: Command, bad: str, message: str, options: list[str]
) -> None:
    command.write("bad.yaml", f"{WEB}---\n{bad}".encode("latin-1"))
    done = command("apply", "-f", "bad.yaml", *options)
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert head(command) == 0


def test_an_owner_that_is_not_there_is_an_error(command: Command) -> None:
    owned = "type: A\nname: a\nspec: {}\nowner: {type: B, name: b}\n"
    done = command("apply", "-f", "-", stdin=f"{WEB}---\n{owned}")
    assert (done.code, done.err) == (1, "error: owner B b not found\n")
    assert head(command) == 0


def test_files_without_resources_are_errors(command: Command) -> None:
    (command.folder / "empty").mkdir()
    assert command("apply", "-f", "empty").err == (
        "error: empty: there is no resource in it\n"
    )
    done = command("apply", "-f", "none.yaml")
    assert (done.code, done.err) == (2, "error: none.yaml: No such file or directory\n")


def test_get_shows_a_resource_as_it_is_and_was(applied: Command) -> None:
    applied("apply", "-f", "-", stdin=WEB.replace("0.1", "0.2"))
    (now,) = applied("get", "Dataplane", "web", "-o", "json").documents
    (then,) = applied("get", "Dataplane", "web", "--at", "2", "-o", "json").documents
    assert now["spec"]["networking"]["address"] == "10.0.0.2"
    assert then["spec"]["networking"]["address"] == "10.0.0.1"
    assert then["spec"]["networking"]["weight"] == 1.0
    assert (then["version"], then["commit"], now["version"]) == (2, 3, 4)
    assert now.keys() == {
        *("type", "mesh", "name", "labels", "spec", "status", "owner", "version"),
        *("commit", "created_version", "created_at", "modified_at"),
    }
    assert then["created_at"].endswith("Z")
    assert applied("get", "Dataplane", "web", "--at", "9").err == (
        "error: at: position 9 lies beyond the head, which is 4\n"
    )
    assert applied("get", "Dataplane", "web", "--at", "1h").code == 1


def test_what_get_prints_as_yaml_can_be_applied_again(applied: Command) -> None:
    texts = "type: Dataplane\nname: odd\nspec: {a: '1', b: 'yes', c: '1e3', d: \"x\\ny\\t\", e: '0x1', f: '', g: '~', h: null, i: '2001-01-01', 'on': {}}\n"
    assert applied("apply", "-f", "-", stdin=texts).code == 0
    for name in ("web", "odd"):
        shown = applied("get", "Dataplane", name, "-o", "yaml").out
        assert applied("apply", "-f", "-", stdin=shown).out.startswith("unchanged")
        assert applied("delete", "Dataplane", name).code == 0
        assert applied("apply", "-f", "-", stdin=shown).out.startswith("created")
    listed = applied("list", "Dataplane", "-o", "yaml").out
    again = applied("apply", "-f", "-", stdin=listed)
    assert again.out.count("unchanged Dataplane") == 2


def test_a_name_is_looked_for_in_other_meshes_where_it_is_alone(
    applied: Command,
) -> None:
    applied("apply", "-f", "-", stdin=WEB.replace("name: web", "name: x\nmesh: m1"))
    assert applied("get", "Dataplane", "x").out.startswith(
        "type     Dataplane\nmesh     m1"
    )
    refused = applied("delete", "Dataplane", "x")
    assert refused.code == 1
    assert refused.err == (
        "error: Dataplane x in mesh default not found; there is one with --mesh m1\n"
    )
    applied("apply", "-f", "-", stdin=WEB.replace("name: web", "name: x\nmesh: ''"))
    ambiguous = applied("get", "Dataplane", "x")
    assert ambiguous.code == 2
    assert "in several other meshes: '', m1; give --mesh" in ambiguous.err
    assert applied("delete", "Dataplane", "x", "--mesh", "").code == 0
    assert applied("get", "Dataplane", "none").err == (
        "error: Dataplane none in mesh default not found\n"
    )


def test_tables_hide_secrets_and_data_does_not(applied: Command) -> None:
    assert "c2VjcmV0" not in applied("get", "Secret", "token").out
    assert "***" in applied("get", "Secret", "token").out
    assert "c2VjcmV0" in applied("get", "Secret", "token", "--show-secrets").out
    for form in ("json", "yaml"):
        assert "c2VjcmV0" in applied("get", "Secret", "token", "-o", form).out
    history = applied("history", "Secret", "token").out
    assert "+spec.data: ***" in history
    assert "c2VjcmV0" in applied("history", "Secret", "token", "--show-secrets").out
    assert "c2VjcmV0" in applied("history", "Secret", "token", "-o", "json").out
    assert "c2VjcmV0" not in applied("log").out


def test_list_filters(applied: Command) -> None:
    applied("apply", "-f", "-", stdin=WEB.replace("name: web", "name: web-2\nmesh: m1"))
    applied("apply", "-f", "-", stdin="type: Dataplane\nname: db\n")

    def names(*options: str) -> list[str]:
        done = applied("list", "Dataplane", "-o", "json", *options)
        return [each["name"] for each in done.documents]

    assert names() == ["db", "web", "web-2"]
    assert names("--mesh", "default") == ["db", "web"]
    assert names("--label", "team=web") == ["web", "web-2"]
    assert names("--label", "team=web", "--label", "a=b") == []
    assert names("--name-contains", "eb") == ["web", "web-2"]
    assert names("--at", "3") == ["web"]
    nothing = applied("list", "Nothing")
    assert nothing == (0, "", "there is no such Nothing\n")
    assert applied("list", "Dataplane", "--label", "team").code == 2


def test_delete_prints_all_that_goes(applied: Command) -> None:
    owned = 'type: Dataplane\nname: child\nspec: {}\nowner: {type: Mesh, mesh: "", name: default}\n'
    assert applied("apply", "-f", "-", stdin=owned).code == 0
    done = applied("delete", "Mesh", "default", "--actor", "bob", "--reason", "bye")
    assert done.out == (
        "deleted   Dataplane child in mesh default\ndeleted   Mesh default\n"
    )
    newest = applied("log", "--limit", "1", "-o", "json").documents[0]
    assert (newest["operation"], newest["actor"], newest["reason"]) == (
        "deleted",
        "bob",
        "bye",
    )
    assert newest["spec"] is None
    assert applied("get", "Mesh", "default").code == 1


def test_delete_holds_to_a_version(applied: Command) -> None:
    refused = applied("delete", "Dataplane", "web", "--version", "1")
    assert refused.code == 1
    assert "is not at version 1" in refused.err
    done = applied("delete", "Dataplane", "web", "--version", "2", "-o", "json")
    assert done.documents == [
        {
            "type": "Dataplane",
            "mesh": "default",
            "name": "web",
            "result": "deleted",
            "version": 4,
        }
    ]


def test_everything_works_in_memory_with_one_warning(tmp_path: Path) -> None:
    command = Command(None, tmp_path)
    done = command("apply", "-f", "-", "-o", "json", stdin=WEB)
    assert json.loads(done.out)["result"] == "created"
    assert done.err.startswith("warning: store.type is memory: ")
    assert done.err.count("\n") == 1
