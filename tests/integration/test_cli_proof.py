"""`evstore verify`, `anchor` and `redact`: what they print, keep and refuse."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

import evstore.blocking
from command import Command, Done
from evstore import maintenance
from tampering import fill, remove, tamper, update

if TYPE_CHECKING:
    from pathlib import Path

    from evstore import Config

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()


@pytest.fixture
def config(postgres_config: Config) -> Config:
    anyio.run(fill, postgres_config)
    return postgres_config


@pytest.fixture
def command(config: Config, tmp_path: Path) -> Command:
    made = Command(config, tmp_path)
    made._settings["XDG_CONFIG_HOME"] = str(tmp_path / "settings")
    return made


def key_path(command: Command) -> Path:
    return command.folder / "settings" / "evstore" / "anchor.pem"


def made_key(command: Command, name: str, **options: bytes) -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    how = (
        serialization.BestAvailableEncryption(options["passphrase"])
        if options
        else PLAIN
    )
    path = command.folder / command.write(name, key.private_bytes(PEM, PKCS8, how))
    path.chmod(0o600)
    return name


def anchored(command: Command, name: str = "anchor.jsonl", *more: str) -> str:
    done = command("anchor", *more)
    assert done.code == 0, done.err
    return command.write(name, done.out)


# verify


def test_a_log_that_holds_is_0(command: Command) -> None:
    done = command("verify")
    assert (done.code, done.err) == (0, "")
    assert "events    12" in done.out
    assert "verdict   the chain holds" in done.out
    assert "anchors   none" in done.out


def test_a_broken_chain_is_1_and_named(command: Command, config: Config) -> None:
    anyio.run(tamper, config, update(6, "actor = 'mallory'"))
    done = command("verify", "-o", "json")
    (document,) = done.documents
    assert done.code == 1
    assert document["ok"] is False
    assert document["findings"] == [
        {
            "kind": "changed",
            "position": 6,
            "last": 6,
            "column": "actor",
            "text": "position 6 was changed: its actor, which was 'alice'",
        }
    ]
    assert done.err == "error: position 6 was changed: its actor, which was 'alice'\n"


def test_a_log_that_no_store_opens_is_verified(
    command: Command, config: Config
) -> None:
    anyio.run(tamper, config, remove(3, 3))
    assert command("log").code == 1
    done = command("verify")
    assert (done.code, done.err) == (1, "error: position 3 was removed\n")


def test_a_memory_log_verifies(tmp_path: Path) -> None:
    done = Command(None, tmp_path)("verify")
    assert done.code == 0
    assert "events    0" in done.out


# anchor


def test_a_key_is_made_once_and_for_the_user_alone(command: Command) -> None:
    first, second = command("anchor"), command("anchor")
    path = key_path(command)
    assert (first.code, second.code) == (0, 0)
    assert first.err == f"made a key to sign anchors with: {path}\n"
    assert second.err == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["anchor.pem"]
    one, two = json.loads(first.out), json.loads(second.out)
    assert (one["log"], one["position"], one["hash"], one["key"]) == (
        two["log"],
        12,
        two["hash"],
        two["key"],
    )
    assert "PRIVATE" not in first.out + first.err


def test_a_key_is_never_overwritten(command: Command) -> None:
    path = key_path(command)
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    path.chmod(0o600)
    done = command("anchor")
    assert (done.code, done.out) == (2, "")
    assert path.read_text() == "precious"
    assert "precious" not in done.err


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620])
def test_a_key_that_others_may_read_is_refused(command: Command, mode: int) -> None:
    command("anchor")
    key_path(command).chmod(mode)
    done = command("anchor")
    assert (done.code, done.out) == (2, "")
    assert "chmod 600" in done.err


def test_an_anchor_of_a_key_of_ones_own(command: Command) -> None:
    name = made_key(command, "mine.pem")
    anchor = anchored(command, "anchor.jsonl", "--key", name)
    public = command.write(
        "public.pem", command("anchor", "--key", name, "--public").out
    )
    done = command("verify", "--anchor", anchor, "--trust", public)
    assert (done.code, done.err) == (0, "")
    assert "anchors   up to position 12; 0 events follow" in done.out
    assert not key_path(command).exists()


def test_an_encrypted_key_needs_its_passphrase(command: Command) -> None:
    name = made_key(command, "mine.pem", passphrase=b"open sesame")
    right = command.write("right.txt", "open sesame\n")
    wrong = command.write("wrong.txt", "open barley\n")
    anchored(command, "anchor.jsonl", "--key", name, "--passphrase-file", right)
    for more in ([], ["--passphrase-file", wrong]):
        done = command("anchor", "--key", name, *more)
        assert (done.code, done.out) == (2, "")
        assert "passphrase" in done.err
        assert "barley" not in done.err


def test_what_is_no_key_is_refused(command: Command) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(PEM, PKCS8, PLAIN)
    for name, content in (("ec.pem", text), ("junk.pem", b"junk")):
        (command.folder / command.write(name, content)).chmod(0o600)
        done = command("anchor", "--key", name)
        assert (done.code, done.out) == (2, "")
        assert name in done.err
    assert command("anchor", "--key", "none.pem").code == 1


def verified(command: Command, *files: str, trust: str | None = None) -> Done:
    words = [word for file in files for word in ("--anchor", file)]
    return command("verify", *words, *([] if trust is None else ["--trust", trust]))


def test_several_anchors_in_several_files(command: Command, config: Config) -> None:
    first = anchored(command, "first.jsonl")
    with evstore.blocking.open(config) as store:
        store.create("Mesh", "other", spec={})
    second = command("anchor").out
    both = command.write("both.jsonl", (command.folder / first).read_text() + second)
    done = verified(command, first, both)
    assert (done.code, done.err) == (0, "")
    assert "up to position 13; 0 events follow" in done.out


def test_a_cut_end_is_1(command: Command, config: Config) -> None:
    anchor = anchored(command)
    anyio.run(tamper, config, remove(11, 12))
    assert command("verify").code == 0
    done = verified(command, anchor)
    assert done.code == 1
    assert "error: cut at the end: the anchor of position 12" in done.err


def test_of_very_many_errors_the_first_ones_are_shown(
    command: Command, config: Config
) -> None:
    lines = (command.folder / anchored(command)).read_text() * 30
    anyio.run(tamper, config, remove(11, 12))
    done = verified(command, command.write("many.jsonl", lines))
    errors = done.err.splitlines()
    assert (done.code, len(errors), errors[-1]) == (1, 11, "error: and 20 more")


def test_an_anchor_by_another_key_is_refused(command: Command) -> None:
    """Whoever can rewrite the log can also sign: with a key that nobody trusts."""
    stranger = made_key(command, "stranger.pem")
    anchor = anchored(command, "anchor.jsonl", "--key", stranger)
    command("anchor", "--public")
    done = verified(command, anchor)
    assert done.code == 1
    assert "anchor.jsonl, line 1: signed by the key" in done.err


def test_a_key_that_an_anchor_brings_is_not_trusted(command: Command) -> None:
    stranger = made_key(command, "stranger.pem")
    anchor = anchored(command, "anchor.jsonl", "--key", stranger)
    own = json.loads(command("anchor").out)
    forged = {
        **json.loads((command.folder / anchor).read_text()),
        "key": own["key"],  # says that it is of the trusted key
    }
    done = verified(command, command.write("forged.jsonl", json.dumps(forged)))
    assert done.code == 1
    assert "forged.jsonl, line 1: the signature is wrong" in done.err
    public = command("anchor", "--key", stranger, "--public").out
    brought = {**forged, "public_key": public}
    done = verified(command, command.write("brought.jsonl", json.dumps(brought)))
    assert (done.code, "no anchor" in done.err) == (1, True)


@pytest.mark.parametrize("field", ["log", "position", "hash", "recorded", "signed"])
def test_an_anchor_that_was_changed_is_refused(command: Command, field: str) -> None:
    whole = json.loads((command.folder / anchored(command)).read_text())
    old = whole[field]
    if isinstance(old, int):
        new: object = old + 1
    else:
        new = ("0" if old[0] != "0" else "1") + old[1:]
    line = json.dumps({**whole, field: new})
    done = verified(command, command.write("changed.jsonl", f"\n{line}\n"))
    assert done.code == 1
    assert "changed.jsonl, line 2: the signature is wrong" in done.err


def test_a_truncated_or_empty_file_is_told(command: Command) -> None:
    text = (command.folder / anchored(command)).read_text()
    for content in (text[:-20], "", "\n\n", "junk", "[]"):
        done = verified(command, command.write("bad.jsonl", content))
        assert done.code == 1
        assert "bad.jsonl" in done.err
    assert verified(command, "none.jsonl").code == 1


def test_without_a_key_there_is_nothing_to_trust(command: Command) -> None:
    stranger = made_key(command, "stranger.pem")
    anchor = anchored(command, "anchor.jsonl", "--key", stranger)
    done = verified(command, anchor)
    assert (done.code, done.out) == (2, "")
    assert "give --trust FILE" in done.err
    assert not key_path(command).exists()
    assert command("verify", "--trust", "x.pem").code == 2


def test_another_log_is_told(command: Command) -> None:
    anchor = anchored(command)
    memory = Command(None, command.folder)
    settings = {"XDG_CONFIG_HOME": str(command.folder / "settings")}
    done = memory("verify", "--anchor", anchor, **settings)
    assert done.code == 1
    assert "is of the log" in done.err


# redact


WHO = ("--actor", "alice", "--reason", "ticket 7")


def test_a_field_is_redacted(command: Command) -> None:
    done = command(
        *("redact", "Secret", "key", "--mesh", ""),
        *("--version", "2", "--field", "spec.data", *WHO, "--yes"),
    )
    assert done.code == 0, done.err
    assert done.out == "redacted  Secret key at 2: /spec/data\n"
    assert "2 is the current version" in done.err
    shown = command("get", "Secret", "key", "--mesh", "", "-o", "json")
    (document,) = shown.documents
    assert document["spec"] == {"data": "[redacted]"}
    assert document["redacted"] == ["/spec/data"]
    table = command("get", "Secret", "key", "--mesh", "")
    assert "/spec/data" in table.out
    listed = command("log", "-o", "json")
    assert "hunter2" not in listed.out
    assert listed.documents[-1]["reason"] == "ticket 7"
    verified = command("verify")
    assert verified.code == 0
    assert "redacted  position 2, Secret//key: /spec/data; by alice, at 13" in (
        verified.out
    )


def test_what_is_redacted_is_no_manifest(command: Command) -> None:
    """A mark never becomes a value."""
    command(
        *("redact", "Secret", "key", "--mesh", ""),
        *("--version", "2", "--field", "spec.data", *WHO, "--yes"),
    )
    shown = command("get", "Secret", "key", "--mesh", "", "-o", "yaml")
    done = command("apply", "-f", command.write("key.yaml", shown.out))
    assert done.code == 1
    assert "redacted: these are gone" in done.err


def test_a_redacted_log_that_was_exported_and_restored_verifies(
    command: Command, unmigrated_config: Config
) -> None:
    command(
        *("redact", "Secret", "key", "--mesh", ""),
        *("--version", "2", "--body", *WHO, "--yes"),
    )
    anchor = anchored(command)
    text = command("export").out
    anyio.run(maintenance.migrate_up, unmigrated_config)
    other = Command(unmigrated_config, command.folder)
    other._settings["XDG_CONFIG_HOME"] = command._settings["XDG_CONFIG_HOME"]
    done = other("import", other.write("log.jsonl", text))
    assert done.code == 0, done.err
    done = verified(other, anchor)
    assert (done.code, done.err) == (0, "")
    assert "redacted  position 2" in done.out


def test_what_is_redacted_is_in_no_export(command: Command) -> None:
    command(
        *("redact", "Secret", "key", "--mesh", ""),
        *("--version", "2", "--body", *WHO, "--yes"),
    )
    done = command("export")
    assert done.code == 0, done.err
    assert "Secret" in done.out
    assert "hunter2" not in done.out
    state = command("replay", "--output", "state.jsonl")
    assert state.code == 0, state.err
    assert "hunter2" not in (command.folder / "state.jsonl").read_text()


def test_other_versions_are_told_and_go_with_all(
    command: Command, config: Config
) -> None:
    with evstore.blocking.open(config) as store:
        store.update(evstore.Key(type="Secret", name="key"), labels={"a": "b"})
    words = ("redact", "Secret", "key", "--mesh", "", "--field", "/spec/data", *WHO)
    done = command(*words, "--version", "2", "--yes")
    assert "an equal value is still in the versions 13" in done.err
    done = command(*words, "--version", "13", "--all-versions", "--yes", "-o", "json")
    assert [each["version"] for each in done.documents] == [13]


@pytest.mark.parametrize(("answer", "code"), [("yes", 0), ("no", 1), ("", 1)])
def test_a_terminal_is_asked(command: Command, answer: str, code: int) -> None:
    words = ("redact", "Secret", "key", "--mesh", "", "--version", "2", "--body", *WHO)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "evstore", *words],
            stdin=theirs,
            capture_output=True,
            check=False,
            env=command.environ(),
            text=True,
            timeout=50,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, done.stderr
    assert "Secret key, version 2, for good?" in done.stderr
    assert ("redacted  " in done.stdout) == (code == 0)


@pytest.mark.parametrize(
    "words",
    [
        ["--field", "spec.data"],
        ["--yes"],
        ["--field", "spec.data", "--body", "--yes"],
    ],
)
def test_wrong_use_is_2_and_does_nothing(command: Command, words: list[str]) -> None:
    done = command(
        "redact", "Secret", "key", "--mesh", "", "--version", "2", *WHO, *words
    )
    assert (done.code, done.out) == (2, "")
    assert len(command("log", "-o", "json").documents) == 12
