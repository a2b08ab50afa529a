"""Where a password comes from, and that nothing ever shows it."""

from __future__ import annotations

import io
import traceback
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rich.console import Console

from evstore.config import Config, PostgresConfig, describe, load_config
from evstore.config.document import Given
from evstore.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(setting: str) -> Path:
        path = tmp_path / "kuma-cp.yaml"
        path.write_text(f"store: {{postgres: {{{setting}}}}}", encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("text", ["0123", "yes", "1e3", "'~'", "=", "0x1F"])
def test_a_password_is_taken_as_it_is_written(text: str, write: Any) -> None:
    config = load_config(write(f"password: {text}"), environ={})
    assert config.postgres.password == text.strip("'")


def test_a_password_in_the_file_may_be_empty(write: Any) -> None:
    config = load_config(write("password: ''"), environ={})
    assert config.postgres.password == ""


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"pw", "pw"),
        (b"pw\n", "pw"),
        (b"pw\r\n", "pw"),
        (b"pw\n\n", "pw\n"),
        (b" pw ", " pw "),
        (b"", ""),
        (b"\n", ""),
        ("pä".encode(), "pä"),
    ],
)
def test_a_password_file_counts_without_its_last_newline(
    content: bytes, password: str, tmp_path: Path, write: Any
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    environ = {"KUMA_STORE_POSTGRES_PASSWORD_FILE": str(secret)}
    assert load_config(environ=environ).postgres.password == password
    path = write(f"passwordFile: {secret}")
    assert load_config(path, environ={}).postgres.password == password


def test_describe_names_the_password_file_and_hides_what_is_in_it(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET, encoding="utf-8")
    environ = {"KUMA_STORE_POSTGRES_PASSWORD_FILE": str(secret)}
    settings = describe(environ=environ)
    assert SECRET not in repr(settings)
    found = {setting.key: setting for setting in settings}
    origin = "environment KUMA_STORE_POSTGRES_PASSWORD_FILE"
    assert found["store.postgres.passwordFile"].value == str(secret)
    assert found["store.postgres.passwordFile"].origin == origin
    assert found["store.postgres.password"].value == "***"
    assert found["store.postgres.password"].origin == origin


def test_a_password_is_never_shown_but_can_be_used() -> None:
    config = Config(postgres=PostgresConfig(password=SECRET))
    out = io.StringIO()
    Console(file=out, width=500).print(config, config.postgres)
    for shown in (repr(config), str(config), f"{config}", f"{config.postgres}"):
        assert SECRET not in shown
        assert "password='***'" in shown
    assert SECRET not in out.getvalue()
    assert config.postgres.password == SECRET
    moved = msgspec.structs.replace(config.postgres, host="db")
    assert (moved.password, moved.host) == (SECRET, "db")


def test_no_frame_of_ours_in_a_traceback_holds_the_password(write: Any) -> None:
    path = write(f"password: {SECRET}, port: 0")
    environ = {"KUMA_STORE_POSTGRES_PASSWORD": SECRET, "KUMA_STORE_TYPE": "none"}
    calls: tuple[Any, ...] = (
        lambda: load_config(path, environ={}),
        lambda: load_config(environ=environ),
        lambda: describe(path, environ=environ),
        lambda: PostgresConfig(password=SECRET, port=0),
        lambda: PostgresConfig(password=SECRET + "\0"),
    )
    for call in calls:
        with pytest.raises(ConfigError) as caught:
            call()
        assert caught.tb.tb_next is not None
        ours = caught.tb.tb_next.tb_next
        shown = "".join(
            traceback.TracebackException(
                caught.type, caught.value, ours, capture_locals=True
            ).format()
        )
        assert "config" in shown
        assert SECRET not in shown
        assert caught.value.__context__ is None


def test_what_was_read_does_not_show_itself() -> None:
    assert SECRET not in repr(Given(SECRET, "password", "default"))


def test_a_wrong_password_is_refused_without_being_shown(write: Any) -> None:
    path = write(f'password: "{SECRET}\\0"')
    name = "KUMA_STORE_POSTGRES_PASSWORD"
    for file, environ, label in (
        (path, {}, f"store.postgres.password ({path}:1:20)"),
        (None, {name: f"{SECRET}\udcff"}, name),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(file, environ=environ)
        wrong = "the value is not UTF-8 text without NUL characters"
        assert str(caught.value) == f"{label}: {wrong}"


@pytest.mark.parametrize("in_file", [(), ("password",), ("passwordFile",), ("both",)])
@pytest.mark.parametrize("given", [SECRET, ""])
def test_a_password_and_a_password_file_exclude_each_other(
    in_file: tuple[str, ...], given: str, write: Any
) -> None:
    lines, environ = [], {}
    for key, variable, text in (
        ("password", "KUMA_STORE_POSTGRES_PASSWORD", given),
        ("passwordFile", "KUMA_STORE_POSTGRES_PASSWORD_FILE", "/nowhere"),
    ):
        if {key, "both"} & set(in_file):
            lines.append(f"{key}: '{text}'")
        else:
            environ[variable] = text
    with pytest.raises(ConfigError, match="is given too; give one of them") as caught:
        load_config(write(", ".join(lines)), environ=environ)
    assert SECRET not in str(caught.value)


def test_a_password_file_that_does_not_hold_one_is_named(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    cases: list[tuple[bytes | None, str]] = [
        (None, "cannot be read: No such file or directory"),
        (SECRET.encode() + b"\xff", "does not hold UTF-8 text without NUL characters"),
        (SECRET.encode() + b"\0", "does not hold UTF-8 text without NUL characters"),
        (b"x" * 65537, "does not hold UTF-8 text without NUL characters, 65536 bytes"),
    ]
    for content, reason in cases:
        if content is not None:
            secret.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load_config(environ={"KUMA_STORE_POSTGRES_PASSWORD_FILE": str(secret)})
        expected = f"KUMA_STORE_POSTGRES_PASSWORD_FILE: '{secret}' {reason}"
        assert str(caught.value).startswith(expected)
        assert SECRET not in str(caught.value)


def test_a_password_may_be_a_callable_in_code() -> None:
    def password() -> str:
        return SECRET

    config = PostgresConfig(password=password)
    assert config.password is password
    assert "password='***'" in repr(config)
    wrong: Any = 7
    with pytest.raises(ConfigError) as caught:
        PostgresConfig(password=wrong)
    assert str(caught.value) == (
        "PostgresConfig.password: the value is not UTF-8 text without NUL characters,"
        " or a callable that returns it"
    )
