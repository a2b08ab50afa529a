"""What is to be said of the server itself, and of the way to it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evstore.config import TlsMode
from evstore.doctor.checks import Check, fail, ok, untold, warn
from evstore.doctor.facts import Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evstore.config import Config, PostgresConfig

    from .facts import Facts, Schema, Server

VERSION_LEAST: Final = 15
_VERSION_STEP: Final = 10_000
_OLD_TLS: Final = frozenset({"SSLv3", "TLSv1", "TLSv1.1"})
_DURABLE: Final = frozenset({"on", "remote_apply"})
_THIS_MACHINE: Final = ("/", "127.", "::1", "localhost")
_MIGRATE: Final = 'run "evstore migrate up" as the owner'


def server(server: Server | Unknown, config: PostgresConfig) -> Iterator[Check]:
    """Yield the checks of the server and its settings."""
    if isinstance(server, Unknown):
        yield untold("version", server)
        return
    yield _version(server)
    yield _tls(server, config)
    yield _fsync(server)
    yield _synchronous_commit(server, config.user)


def _version(server: Server) -> Check:
    found = f"PostgreSQL {server.version}"
    if server.version_number < VERSION_LEAST * _VERSION_STEP:
        advice = f"upgrade the server to PostgreSQL {VERSION_LEAST} or newer"
        return fail("version", found, advice)
    return ok("version", found)


def _tls(server: Server, config: PostgresConfig) -> Check:
    mode, tls = config.tls.mode, server.tls
    if tls is None:
        hosts = config.host.split(",")
        if all(host.startswith(_THIS_MACHINE) for host in hosts):
            return ok("tls", "not encrypted, and does not leave this machine")
        found = "not encrypted: passwords and specs cross the network as they are"
        return warn("tls", found, "set store.postgres.tls.mode to verifyFull")
    found = f"{tls.version}, {tls.cipher}, {mode.value}"
    if server.pooled:
        found = f"{mode.value}; behind the pooler: {tls.version or 'not encrypted'}"
    if tls.version in _OLD_TLS:
        advice = "set ssl_min_protocol_version to TLSv1.2 on the server"
        return warn("tls", found, advice)
    if mode is TlsMode.VERIFY_NONE:
        found += ": who is in between can pose as the server"
        advice = "set store.postgres.tls.mode to verifyFull, and caPath"
        return warn("tls", found, advice)
    return ok("tls", found)


def _fsync(server: Server) -> Check:
    if not server.fsync:
        found = "off: a crash of the machine loses what was acknowledged, or all of it"
        return fail("fsync", found, "set fsync = on in postgresql.conf")
    if not server.full_page_writes:
        found = "on, but full_page_writes is off: a crash may tear pages"
        advice = "set full_page_writes = on, unless the file system writes pages whole"
        return warn("fsync", found, advice)
    return ok("fsync", "on")


def _synchronous_commit(server: Server, role: str) -> Check:
    setting = server.synchronous_commit
    if setting in _DURABLE:
        return ok("synchronous_commit", setting)
    found = f"{setting}; appends switch it on for themselves, nothing else does"
    advice = f'ALTER ROLE "{role}" SET synchronous_commit = on'
    return warn("synchronous_commit", found, advice)


def schema(schema: Schema) -> Check:
    """Judge whether the database is at a version that we can use."""
    version, needed = schema.version, schema.needed
    if not version:
        found = f"not migrated: this evstore needs version {needed}"
        return fail("migrations", found, _MIGRATE)
    if schema.problem is None:
        newer = f", newer than {needed}, and tolerated" if version > needed else ""
        return ok("migrations", f"version {version}{newer}")
    if version < needed:
        found = f"version {version}, this evstore needs {needed}"
        return fail("migrations", found, _MIGRATE)
    if version > needed:
        found = f"version {version}, newer than {needed} of this evstore"
        advice = "install the newer evstore; see store.postgres.tolerateNewerDBVersions"
        return fail("migrations", found, advice)
    advice = "start nothing before the database is as the migrations have made it"
    return fail("migrations", schema.problem, advice)


def listen(facts: Facts, config: Config) -> Check:
    """Judge whether instances hear of what others append."""
    heard, every = facts.heard, f"each {config.evstore.poll_interval:g} s at least"
    pooled = not isinstance(facts.server, Unknown) and facts.server.pooled
    if heard is None:
        return ok("listen", f"switched off: instances look at the log {every}")
    if isinstance(heard, Unknown):
        return untold("listen", heard)
    if heard:
        through = ", through a pooler that keeps sessions" if pooled else ""
        return ok("listen", f"notifications are heard{through}")
    why = ": a pooler in transaction mode is in between" if pooled else ""
    found = f"notifications are not heard{why}; instances look at the log {every}"
    advice = "connect past the pooler, or set store.evstore.notify to false"
    return warn("listen", found, advice)
