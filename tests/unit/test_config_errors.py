"""What is said about settings that are wrong: all of it, and never a secret."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evstore.config import Config, load_config
from evstore.config.catalog import SETTINGS, Declaration
from evstore.errors import ConfigError

if TYPE_CHECKING:
    from evstore.config.kinds import Kind

SECRET = "hunter2"
DURATION = "a duration with its unit, such as 200ms, 5s or 1h30m"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kuma-cp.yaml"


def complaint(path: Path, content: str | bytes, **environ: str) -> str:
    """Return what is said about a file, which is called F in it."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ=environ)
    assert SECRET not in str(caught.value)
    return str(caught.value).replace(str(path), "F")


def test_several_mistakes_are_told_together_as_the_user_wrote_them(path: Path) -> None:
    content = (
        "Store:\n"
        "  Postgres:\n"
        "    PORT: abc\n"
        "    prot: 5432\n"
        f"    password: {SECRET}\n"
        "    tls: {mode: verifyFull, certPath: /crt}\n"
    )
    found = complaint(path, content, KUMA_STORE_TYPE="pg", KUMA_STORE_CACHE="x")
    assert found.splitlines() == [
        (
            "Store.Postgres.prot (F:4:5): unknown setting; did you mean"
            " store.postgres.port?"
        ),
        "Store.Postgres.PORT (F:3:5): 'abc' is not a whole number from 1 to 65535",
        "KUMA_STORE_TYPE: 'pg' is not memory, postgres or kubernetes",
        (
            "Store.Postgres.tls.mode (F:6:11): verifyFull needs store.postgres.tls.caPath"
            " (or KUMA_STORE_POSTGRES_TLS_CA_PATH) too"
        ),
        (
            "Store.Postgres.tls.certPath (F:6:29): needs store.postgres.tls.keyPath"
            " (or KUMA_STORE_POSTGRES_TLS_KEY_PATH) too"
        ),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "store: {typo: 1}",
            "store.typo (F:1:9): unknown setting; did you mean store.type?",
        ),
        ("store: {xyzzy: 1}", "store.xyzzy (F:1:9): unknown setting"),
        (
            "store: {postgresql: {}}",
            "store.postgresql (F:1:9): unknown setting; did you mean store.postgres?",
        ),
        (
            "store: {evstore: {limits: {batchBytes: 1}}}",
            (
                "store.evstore.limits.batchBytes (F:1:28): unknown setting;"
                " did you mean store.evstore.limits.batchBytesMax?"
            ),
        ),
        (
            "store: {caches: {enabled: true}}",
            "store.caches (F:1:9): unknown setting; did you mean store.cache?",
        ),
        (
            f"store: {{postgres: {{passwords: {SECRET}}}}}",
            (
                "store.postgres.passwords (F:1:20): unknown setting;"
                " did you mean store.postgres.password?"
            ),
        ),
        ('store: {"x\\ny": 1}', "store.x\\ny (F:1:9): unknown setting"),
        ("store: {[a]: 1}", "F:1:9: a key in store is not plain text"),
        ("store: memory", "store (F:1:1): must be a mapping of settings"),
        ('store: ""', "store (F:1:1): must be a mapping of settings"),
        ("store: [1]", "store (F:1:1): must be a mapping of settings"),
        (
            "store: {postgres: {host: [a]}}",
            "store.postgres.host (F:1:20): must be a single plain value",
        ),
        (
            f"store: {{postgres: {{password: {{{SECRET}: 1}}}}}}",
            "store.postgres.password (F:1:20): must be a single plain value",
        ),
        (
            f"store: {{postgres: {{password: !{SECRET} x}}}}",
            "store.postgres.password (F:1:20): must be a single plain value",
        ),
        (
            "store: {type: memory, TYPE: memory}",
            "store.TYPE (F:1:23): is given twice",
        ),
        ("store: {}\nStore: {}", "Store (F:2:1): is given twice"),
        ("store: {<<: 5}", "F:1:13: a merge key takes mappings only"),
        ("a: &a {[b]: 1}\nstore: {<<: *a}", "F:1:8: a key in store is not plain text"),
        ("[a]: 1", "F:1:1: a key is not plain text"),
        ("a: 1\na: 2", "a (F:2:1): is given twice"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_place(
    path: Path, content: str, expected: str
) -> None:
    assert complaint(path, content) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("- a", "F:1:1: is not a mapping of sections"),
        ("text", "F:1:1: is not a mapping of sections"),
        (
            "a: 1\n---\nb: 2\n",
            (
                "F:2:1: invalid YAML: expected a single document in the stream,"
                " but found another document"
            ),
        ),
        ("a: 1\nb: c: d", "F:2:5: invalid YAML: mapping values are not allowed here"),
        (
            "store:\n\ttype: x",
            "F:2:1: invalid YAML: while scanning for the next token,",
        ),
        (
            "a: [1\n",
            (
                "F:2:1: invalid YAML: while parsing a flow sequence, expected ',' or ']',"
                " but got '<stream end>'"
            ),
        ),
        (
            f"store: {{postgres: {{password: *{SECRET}}}}}",
            "F:1:30: invalid YAML: found undefined alias ...",
        ),
        (
            f"store: {{postgres: {{password: !x!{SECRET} y}}}}",
            "F:1:30: invalid YAML: while parsing a node,",
        ),
        (f"store:\n  postgres:\n    password: '{SECRET}", "F:3:23: invalid YAML:"),
        ("a: b\0", "F:1:5: invalid YAML: a character that YAML does not allow"),
        ("a:\n- \x07", "F:2:3: invalid YAML: a character that YAML does not allow"),
        (b"a: b\nc: d\xff", "F:2:5: is not UTF-8 text"),
        ("store: {}".encode("utf-16"), "F:1:1: is not UTF-8 text"),
        ("[" * 5000, "F: invalid YAML: it is nested too deeply"),
        (b"#" * (1024 * 1024 + 1), "F: is longer than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_yaml_is_refused_with_the_place(
    path: Path, content: str | bytes, expected: str
) -> None:
    assert complaint(path, content).startswith(expected)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (Path("a\0b"), "embedded null byte"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(path, environ={})
        assert str(caught.value) == f"{path}: cannot be read: {reason}"


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("POSTGRES_PORT", "0", "a whole number from 1 to 65535"),
        ("POSTGRES_PORT", "65536", "a whole number from 1 to 65535"),
        ("POSTGRES_PORT", "5432 ", "a whole number from 1 to 65535"),
        ("POSTGRES_PORT", "05432", "a whole number from 1 to 65535"),
        ("POSTGRES_PORT", "\u0665", "a whole number from 1 to 65535"),
        ("POSTGRES_READ_REPLICA_RATIO", "101", "a whole number from 0 to 100"),
        ("POSTGRES_CONNECTION_TIMEOUT", "-1", f"{DURATION}, or whole seconds"),
        ("POSTGRES_CONNECTION_TIMEOUT", "-1s", f"{DURATION}, or whole seconds"),
        ("POSTGRES_CONNECTION_TIMEOUT", "1.5", f"{DURATION}, or whole seconds"),
        ("POSTGRES_HEALTH_CHECK_INTERVAL", "30", f"{DURATION}, 0 or more"),
        ("EVSTORE_POLL_INTERVAL", "0", f"{DURATION}, more than 0"),
        ("EVSTORE_NOTIFY", "off", "true or false"),
        ("EVSTORE_NOTIFY", "tRUE", "true or false"),
        (
            "POSTGRES_TLS_MODE",
            "verifyfull",
            "disable, verifyNone, verifyCa or verifyFull",
        ),
        ("TYPE", "Memory", "memory, postgres or kubernetes"),
        (
            "POSTGRES_DB_NAME",
            "a\nb",
            "text without control characters that is not empty",
        ),
        (
            "POSTGRES_USER",
            "\udcff",
            "text without control characters that is not empty",
        ),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_and_what_is_allowed(
    variable: str, text: str, allowed: str
) -> None:
    name = f"KUMA_STORE_{variable}"
    with pytest.raises(ConfigError) as caught:
        load_config(environ={name: text})
    assert str(caught.value) == f"{name}: {text!r} is not {allowed}"


@pytest.mark.parametrize(
    "host",
    ["db", "10.0.0.1", "fe80::1%eth0", "my_db.svc", "/run/postgresql", "/", "a,b,/c"],
)
def test_hosts_and_socket_folders_are_accepted(host: str) -> None:
    environ = {"KUMA_STORE_POSTGRES_HOST": host}
    assert load_config(environ=environ).postgres.host == host


@pytest.mark.parametrize(
    "host", ["a,", "a, b", "a b", ",", "[::1]", "db:5432", "a:1,b:2"]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="is not a host name"):
        load_config(environ={"KUMA_STORE_POSTGRES_HOST": host})


def test_an_empty_host_in_a_file_is_refused_but_no_read_replica_is_fine(
    path: Path,
) -> None:
    found = complaint(path, 'store: {postgres: {host: ""}}')
    assert found.startswith("store.postgres.host (F:1:20): '' is not a host name")
    path.write_text('store: {postgres: {readReplica: {host: ""}}}')
    assert load_config(path, environ={}) == Config()


def test_credentials_within_a_host_and_long_values_are_not_shown() -> None:
    url = f"postgres://kuma:{SECRET}@db/kuma?{'x' * 200}"
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"KUMA_STORE_POSTGRES_HOST": url})
    assert "'postgres://***@db/kuma?xxx" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value)) < 320


@pytest.mark.parametrize(
    "text",
    [
        f"kuma:{SECRET}@db",
        f"postgres://kuma:{SECRET}/x@db/kuma",
        f"postgres://kuma:a@{SECRET}@db/kuma",
        f"postgres://db/kuma?user=kuma&password={SECRET}",
        f"host=db password={SECRET}",
        f"host=db PASSWORD = a@{SECRET}",
    ],
)
@pytest.mark.parametrize("name", ["HOST", "PORT", "TLS_MODE"])
def test_whole_addresses_and_connection_strings_are_shown_without_their_password(
    name: str, text: str
) -> None:
    variable = f"KUMA_STORE_POSTGRES_{name}"
    with pytest.raises(ConfigError, match=f"{variable}: '.*' is not") as caught:
        load_config(environ={variable: text})
    assert SECRET not in str(caught.value)


def test_a_key_that_a_missing_space_has_made_of_a_password_is_not_shown(
    path: Path,
) -> None:
    found = complaint(path, f"store: {{postgres: {{password:{SECRET}, port: 1}}}}")
    assert found.startswith("store.postgres.password:*** (F:1:20): unknown setting")
    assert SECRET not in found


@pytest.mark.parametrize("mode", ["verifyCa", "verifyFull"])
def test_modes_that_check_a_certificate_need_the_authorities(mode: str) -> None:
    environ = {"KUMA_STORE_POSTGRES_TLS_MODE": mode}
    with pytest.raises(ConfigError) as caught:
        load_config(environ=environ)
    assert str(caught.value) == (
        f"KUMA_STORE_POSTGRES_TLS_MODE: {mode} needs store.postgres.tls.caPath"
        " (or KUMA_STORE_POSTGRES_TLS_CA_PATH) too"
    )
    environ["KUMA_STORE_POSTGRES_TLS_CA_PATH"] = "/ca"
    assert load_config(environ=environ).postgres.tls.mode == mode


def test_bounds_between_settings_are_told_with_both_values(path: Path) -> None:
    found = complaint(
        path,
        "store: {postgres: {minOpenConnections: 11, maxConnectionLifetime: 30s}}",
        KUMA_STORE_POSTGRES_MAX_OPEN_CONNECTIONS="10",
    )
    assert found.splitlines() == [
        (
            "store.postgres.minOpenConnections (F:1:20): 11 is more than 10, the value of"
            " KUMA_STORE_POSTGRES_MAX_OPEN_CONNECTIONS"
        ),
        (
            "store.postgres.maxConnectionLifetimeJitter"
            " (or KUMA_STORE_POSTGRES_MAX_CONNECTION_LIFETIME_JITTER): 1m is more than 30s,"
            " the value of store.postgres.maxConnectionLifetime (F:1:44)"
        ),
    ]


def wrong(declaration: Declaration) -> str:
    """Return a text that a setting cannot have."""
    texts = ("wrong", f"{SECRET}\0" if declaration.field.secret else "a\0b")
    return next(text for text in texts if not readable(declaration.field.kind, text))


def readable(kind: Kind, text: str) -> bool:
    try:
        kind.read(text)
    except ValueError:
        return False
    return True


def told(declaration: Declaration) -> str:
    kind = declaration.field.kind
    shown = "the value" if declaration.field.secret else repr(wrong(declaration))
    return f"{shown} is not {kind.allowed(written=True)}"


@pytest.mark.parametrize("declaration", SETTINGS, ids=lambda each: each.key)
def test_every_setting_is_checked_wherever_it_comes_from(
    path: Path, declaration: Declaration
) -> None:
    name = declaration.variable("MESH")
    with pytest.raises(ConfigError) as caught:
        load_config(environ={name: wrong(declaration)}, prefix="MESH")
    assert str(caught.value) == f"{name}: {told(declaration)}"
    written = declaration.key.upper()
    *sections, last = written.split(".")
    opened = "".join(f"{section}: {{" for section in sections)
    text = wrong(declaration).replace("\0", "\\0")
    content = f'{opened}{last}: "{text}"{"}" * len(sections)}'
    expected = f"{written} (F:1:{len(opened) + 1}): {told(declaration)}"
    assert complaint(path, content) == expected


def test_all_settings_that_are_wrong_are_told_at_once(path: Path) -> None:
    path.write_text("", encoding="utf-8")
    environ = {each.variable("KUMA"): wrong(each) for each in SETTINGS}
    found = complaint(path, "", **environ)
    assert found.splitlines() == [
        f"{each.variable('KUMA')}: {told(each)}" for each in SETTINGS
    ]


@pytest.mark.parametrize("mode", ["verifyNone", "verifyCa", "verifyFull"])
@pytest.mark.parametrize("host", ["/run/postgresql", "db,/run/postgresql"])
def test_nothing_is_encrypted_through_a_socket_folder(
    path: Path, mode: str, host: str
) -> None:
    content = f"store: {{postgres: {{tls: {{mode: {mode}, caPath: /ca}}}}}}"
    beginning = f"store.postgres.tls.mode (F:1:26): {mode} is impossible through a"
    end = "; disable is allowed there"
    for variable in ("POSTGRES_HOST", "POSTGRES_READ_REPLICA_HOST"):
        name = f"KUMA_STORE_{variable}"
        found = complaint(path, content, **{name: host})
        assert found == f"{beginning} socket folder, which is in {name}{end}"
    environ = {
        "KUMA_STORE_POSTGRES_HOST": host,
        "KUMA_STORE_POSTGRES_TLS_MODE": "disable",
    }
    assert load_config(path, environ=environ).postgres.host == host
