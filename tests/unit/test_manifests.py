"""Kuma's resource YAML: both forms, defaults, and errors that name the place."""

from __future__ import annotations

import pytest

from evstore.cli.input.manifests import Manifest, default_mesh, read_manifests, unique
from evstore.errors import InvalidError
from evstore.model import Key


def read(text: str | bytes) -> list[Manifest]:
    content = text if isinstance(text, bytes) else text.encode()
    return list(read_manifests(content, "file.yaml"))


def error(text: str | bytes) -> str:
    with pytest.raises(InvalidError) as caught:
        read(text)
    return str(caught.value)


def test_the_newer_form_has_its_spec_under_spec() -> None:
    (found,) = read(
        "type: MeshTimeout\nname: all\nmesh: other\nlabels: {a: b}\n"
        "spec: {to: []}\nstatus: {ok: true}\n"
    )
    assert found.key == Key(type="MeshTimeout", mesh="other", name="all")
    assert (found.spec, found.labels) == ({"to": []}, {"a": "b"})
    assert found.status == {"ok": True}


def test_the_older_form_is_all_the_other_keys() -> None:
    (found,) = read(
        "type: Dataplane\nname: web\nnetworking: {address: 1.1.1.1}\nstatus: {a: 1}\n"
        "creationTime: '2020-01-01T00:00:00Z'\n"
    )
    assert found.spec == {"networking": {"address": "1.1.1.1"}, "status": {"a": 1}}
    assert found.status is None


def test_without_other_keys_the_spec_is_empty() -> None:
    (found,) = read("type: Mesh\nname: default\n")
    assert (found.spec, found.labels, found.key.mesh) == ({}, {}, "")


@pytest.mark.parametrize(
    ("type_", "mesh"), [("Mesh", ""), ("Zone", ""), ("Dataplane", "default")]
)
def test_a_mesh_that_is_not_given_follows_from_the_type(type_: str, mesh: str) -> None:
    assert default_mesh(type_) == mesh


def test_a_mesh_is_kept_as_written_even_for_global_types() -> None:
    (found,) = read("type: Mesh\nmesh: sample\nname: x\n")
    assert found.key.mesh == "sample"
    (found,) = read("type: Dataplane\nmesh: ''\nname: x\n")
    assert found.key.mesh == ""


def test_what_get_shows_besides_is_ignored_but_the_owner() -> None:
    (found,) = read(
        "type: Dataplane\nname: web\nspec: {}\nversion: 3\ncommit: 3\nstatus: null\n"
        "created_at: '2020-01-01T00:00:00Z'\nowner: {type: Mesh, mesh: '', name: m}\n"
    )
    assert found.owner == Key(type="Mesh", name="m")
    assert found.status is None


def test_json_is_yaml() -> None:
    (found,) = read('{"type": "Mesh", "name": "m", "spec": {"a": "\\u00e9"}}')
    assert found.spec == {"a": "é"}


def test_a_byte_order_mark_is_no_content() -> None:
    assert len(read(b"\xef\xbb\xbftype: Mesh\nname: m\n")) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n", "document 1, line 1: type is missing"),
        ("type: Mesh\n", "document 1, line 1: name is missing"),
        ("- 1\n", "document 1, line 1: is not a mapping"),
        ("type: Mesh\nname: 7\n", "line 2: name: is not text; put it in quotes"),
        ("type: Mesh\nname: m\nmesh: 7\n", "line 3: mesh: is not text"),
        ("type: mesh\nname: m\n", "line 1: type: 'mesh' does not begin with a capital"),
        ("type: Mesh\nname: m\nspec: 1\n", "line 3: spec: is not a mapping"),
        ("type: Mesh\nname: m\nspec:\n", "line 3: spec: is not a mapping"),
        ("type: Mesh\nname: m\nspec: {}\nconf: {}\n", "line 4: conf: is not known"),
        ("type: Mesh\nname: m\nlabels: {a: 1}\n", "line 3: labels: the value of a"),
        ("type: Mesh\nname: m\nlabels: [a]\n", "line 3: labels: is not a mapping"),
        ("type: Mesh\nname: m\nspec: {}\nowner: {type: M}\n", "line 4: owner: "),
        ("type: A\nname: a\n---\ntype: B\ntype: B\n", "document 2, line 5: the key"),
        ("type: A\nname: a\n---\n\nx: .nan\n", "document 2, line 5: .nan is not"),
        ("type: A\nname: a\n---\nb: [\n", "document 2, line 5: invalid YAML"),
        (b"type: A\nname: a\n---\nb: \xff\n", "document 2, line 4: is not UTF-8"),
        (b"a: \xff\n", "document 1, line 1: is not UTF-8 text"),
    ],
)
def test_an_error_names_file_document_and_line(text: str, message: str) -> None:
    assert error(text).startswith("file.yaml: ")
    assert message in error(text)


def test_the_same_resource_twice_names_both_places() -> None:
    same = "type: Mesh\nname: m\n"
    with pytest.raises(InvalidError) as caught:
        unique(read(f"{same}---\n{same}"))
    assert str(caught.value) == (
        "file.yaml: document 2, line 4: Mesh m stands twice, first in"
        " file.yaml: document 1, line 1"
    )
