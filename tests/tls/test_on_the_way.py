"""Somebody between the store and the server: what he hears, and who lets him."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

import evstore
from evstore.config import TlsMode
from evstore.errors import UnavailableError
from tls.kinds import ENCRYPTED, HOST, PASSWORD, Servers, refused, settings
from tls.wiretap import SSL_REQUEST, Habit, Wiretap, tapped

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from evstore import Config
    from servers import DebianServer

    Tap = Callable[..., AbstractAsyncContextManager[tuple[Wiretap, Config]]]


@pytest.fixture
def tap(servers: Servers, right: DebianServer) -> Tap:
    """Return a way to put somebody before the right server, who is a good liar.

    His certificate is for the right host, but of an authority that nobody trusts.
    """
    shown = servers.stranger.issue("liar", hosts=(HOST,))

    @asynccontextmanager
    async def put(
        habit: Habit, mode: TlsMode, **given: object
    ) -> AsyncGenerator[tuple[Wiretap, Config]]:
        trusted = {"ca_path": str(servers.root.ca_path)}
        async with tapped(habit, right.port, shown) as (found, port):
            yield found, settings(port, mode, **(trusted | given))

    return put


async def use(config: Config) -> bytes:
    """Append what nobody has said before; return it."""
    said = uuid4().hex
    async with evstore.open(config) as store:
        await store.upsert("Mesh", "default", change=lambda _: {"said": said})
        await store.head()
    return said.encode()


async def test_without_tls_he_hears_what_is_written(tap: Tap) -> None:
    plain = tap(Habit.LISTEN, TlsMode.DISABLE, user="kuma_plain")
    async with plain as (found, config):
        assert await use(config) in found.heard
        assert b"kuma_plain" in found.heard


@pytest.mark.parametrize("mode", ENCRYPTED)
async def test_with_tls_he_hears_nothing(tap: Tap, mode: TlsMode) -> None:
    async with tap(Habit.LISTEN, mode) as (found, config):
        said = await use(config)
        assert set(found.greetings) == {SSL_REQUEST}
        assert found.heard
        for known in (PASSWORD.encode(), said, b"evstore writer"):
            assert known not in found.heard


@pytest.mark.parametrize("mode", ENCRYPTED)
async def test_no_mode_falls_back_to_plain_text_where_he_denies_tls(
    tap: Tap, mode: TlsMode
) -> None:
    async with tap(Habit.DENY, mode) as (found, config):
        assert "does not support SSL" in await refused(config)
        assert set(found.greetings) == {SSL_REQUEST}
        assert not found.heard


@pytest.mark.parametrize("mode", ENCRYPTED)
async def test_no_mode_falls_back_to_plain_text_where_he_hangs_up(
    tap: Tap, mode: TlsMode
) -> None:
    async with tap(Habit.CUT, mode) as (found, config):
        assert "cannot be used now" in await refused(config, UnavailableError)
        assert set(found.greetings) == {SSL_REQUEST}
        assert not found.heard


async def test_verify_none_lets_him_in_between(tap: Tap) -> None:
    async with tap(Habit.INTERCEPT, TlsMode.VERIFY_NONE) as (found, config):
        assert await use(config) in found.heard
        assert PASSWORD.encode() in found.heard


@pytest.mark.parametrize("mode", [TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL])
@pytest.mark.parametrize("user", ["kuma", "kuma_scram"])
async def test_modes_that_check_do_not_let_him_in_between(
    tap: Tap, mode: TlsMode, user: str
) -> None:
    async with tap(Habit.INTERCEPT, mode, user=user) as (found, config):
        message = await refused(config)
        assert re.search(r"certificate verify failed.* .*tls\.caPath", message)
        assert found.greetings
        assert not found.heard


async def test_scram_does_not_let_him_in_between_even_with_verify_none(
    tap: Tap,
) -> None:
    none = tap(Habit.INTERCEPT, TlsMode.VERIFY_NONE, user="kuma_scram")
    async with none as (found, config):
        assert "channel binding" in await refused(config)
        assert PASSWORD.encode() not in found.heard


@pytest.mark.parametrize(("disabled", "name"), [(False, HOST), (True, None)])
async def test_the_host_is_named_in_clear_unless_that_is_disabled(
    tap: Tap, *, disabled: bool, name: str | None
) -> None:
    for mode in ENCRYPTED:
        intercepted = tap(Habit.INTERCEPT, mode, disable_sslsni=disabled)
        async with intercepted as (found, config):
            if mode is TlsMode.VERIFY_NONE:
                await use(config)
            else:
                await refused(config)
            assert set(found.names) == {name}


@pytest.mark.parametrize("mode", ENCRYPTED)
async def test_without_the_name_of_the_host_certificates_are_checked_as_before(
    tap: Tap, mode: TlsMode
) -> None:
    async with tap(Habit.LISTEN, mode, disable_sslsni=True) as (_, config):
        await use(config)
