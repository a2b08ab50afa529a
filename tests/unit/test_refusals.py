"""What is advised after a connection that failed, by the text that libpq has."""

from __future__ import annotations

import re

import pytest

from evstore.config import TlsConfig, TlsMode
from evstore.config.catalog import SETTINGS
from evstore.log.postgres import refusals
from evstore.log.postgres.refusals import advice

SETTING = re.compile(r"store\.postgres(?:\.\w+)+")
TLS = TlsConfig(
    mode=TlsMode.VERIFY_FULL, ca_path="/ca", cert_path="/crt", key_path="/key"
)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("server does not support SSL, but SSL was required", "tls.mode"),
        ('no pg_hba.conf entry for host "h", user "u", no encryption', "tls.mode"),
        ('no pg_hba.conf entry for host "h", user "u", SSL encryption', "user"),
        ('pg_hba.conf rejects connection for host "h", SSL encryption', "user"),
        ("SSL error: certificate verify failed", "tls.caPath"),
        ('server certificate for "a" does not match host name "b"', "host"),
        ("SSL error: tlsv1 alert unknown ca", "tls.certPath"),
        ("SSL error: sslv3 alert bad certificate", "tls.certPath"),
        ("SSL error: ssl/tls alert certificate expired", "tls.certPath"),
        ("FATAL: connection requires a valid client certificate", "tls.certPath"),
        ('FATAL: certificate authentication failed for user "u"', "tls.certPath"),
        ('could not read root certificate file "/ca": no start line', "tls.caPath"),
        ('could not read certificate file "/crt": no start line', "tls.certPath"),
        ('private key file "/key" has group or world access', "tls.keyPath"),
        ('certificate present, but not private key file "/key"', "tls.keyPath"),
        ("FATAL: SCRAM channel binding check failed", "host"),
        ("received invalid response to SSL negotiation: H", "host"),
        ("fe_sendauth: no password supplied", "password"),
        ('FATAL: database "nowhere" does not exist', "dbName"),
        ('FATAL: role "nobody" does not exist', "user"),
        ('FATAL: role "kuma" is not permitted to log in', "user"),
        ('FATAL: permission denied for database "kuma"', "user"),
        ('FATAL: Peer authentication failed for user "kuma"', "user"),
        ('FATAL: Ident authentication failed for user "kuma"', "user"),
        ('FATAL: LDAP authentication failed for user "kuma"', "user"),
        ("FATAL: SASL authentication failed", "user"),
        ("FATAL: no such database: nowhere", "dbName"),
        ("FATAL: no such user: nobody", "user"),
        ("a certificate of some kind that nobody has thought of", "tls"),
    ],
)
def test_the_first_setting_that_is_named_is_the_one_to_change(
    text: str, setting: str
) -> None:
    given = advice(text, TLS)
    assert given is not None
    assert SETTING.findall(given)[0] in {
        f"store.postgres.{setting}",
        f"store.postgres.{setting}.mode",
    }


@pytest.mark.parametrize(
    "text",
    [
        "connection timeout expired",
        "Connection refused",
        "server closed the connection unexpectedly",
        "the database system is starting up",
        "sorry, too many clients already",
        "session is read-only",
        "[Errno -2] Name or service not known",
    ],
)
def test_what_passes_by_itself_needs_no_advice(text: str) -> None:
    assert advice(text, TLS) is None


@pytest.mark.parametrize(
    ("tls", "named"),
    [
        (TLS, True),
        (TlsConfig(mode=TlsMode.VERIFY_NONE), False),
        (TlsConfig(cert_path="/crt", key_path="/key"), False),
    ],
)
def test_a_certificate_is_in_doubt_only_where_one_is_shown(
    tls: TlsConfig, *, named: bool
) -> None:
    given = advice('password authentication failed for user "kuma"', tls)
    assert given is not None
    assert "store.postgres.password" in given
    assert ("store.postgres.tls.certPath" in given) is named


def test_only_settings_that_exist_are_named() -> None:
    texts = [refusal.advice for refusal in refusals._REFUSALS]
    texts.append(advice("password authentication failed", TLS) or "")
    named = {name for text in texts for name in SETTING.findall(text)}
    keys = {setting.key for setting in SETTINGS}
    assert named <= keys | {"store.postgres.tls"}
    assert len(named) > 8
