"""The password and the specs stay out of whatever people get to read."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

import msgspec
import pytest
from rich.console import Console

import evstore
from evstore import Config
from evstore.errors import StoreError
from fault.history import limited, until
from fault.proxy import Fault, open_proxy

if TYPE_CHECKING:
    from evstore import Store

PASSWORD = "correct horse battery staple"
SECRET = "hunter2-in-a-spec"


def with_password(config: Config) -> Config:
    postgres = msgspec.structs.replace(config.postgres, password=PASSWORD)
    return msgspec.structs.replace(config, postgres=postgres)


def test_a_configuration_does_not_show_its_password() -> None:
    config = with_password(Config())
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(config)
        console.print(config.postgres)
        shown = console.export_text()
    for text in (
        repr(config),
        str(config),
        repr(config.postgres),
        f"{config.postgres}",
        repr([config]),
        repr({"config": config}),
        shown,
    ):
        assert PASSWORD not in text
    assert "postgres" in shown
    assert config.postgres.password == PASSWORD


async def _everything_said(
    config: Config, caplog: pytest.LogCaptureFixture
) -> tuple[str, StoreError]:
    """Return all that is said where a store cannot be opened, and the error.

    That is with the variables of every frame, as reporters of tracebacks send them.
    """
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StoreError) as caught:
        async with evstore.open(config):
            pytest.fail("it opened")
    said = traceback.TracebackException.from_exception(
        caught.value, capture_locals=True
    )
    return "".join(said.format()) + caplog.text, caught.value


async def test_an_error_while_connecting_does_not_show_the_password(
    postgres_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    base = with_password(postgres_config).postgres
    for postgres in (
        msgspec.structs.replace(base, host="/nowhere"),
        msgspec.structs.replace(base, user="nobody"),
        msgspec.structs.replace(base, db_name="nowhere"),
        msgspec.structs.replace(base, host="127.0.0.1", port=1),
    ):
        config = msgspec.structs.replace(postgres_config, postgres=postgres)
        said, error = await _everything_said(config, caplog)
        assert PASSWORD not in said
        assert PASSWORD not in str(error)
        assert PASSWORD not in repr(error)
        assert PASSWORD not in caplog.text


async def test_an_ordinary_traceback_does_not_show_the_password(
    postgres_config: Config,
) -> None:
    config = with_password(postgres_config)
    postgres = msgspec.structs.replace(config.postgres, db_name="nowhere")
    with pytest.raises(StoreError) as caught:
        async with evstore.open(msgspec.structs.replace(config, postgres=postgres)):
            pytest.fail("it opened")
    said = "".join(traceback.format_exception(caught.value))
    assert "nowhere" in said
    assert PASSWORD not in said


async def test_a_store_at_work_logs_no_password_and_no_spec(
    postgres_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = limited(with_password(postgres_config), append_timeout=0.3)
    async with open_proxy(config) as proxy, evstore.open(proxy.config) as store:
        for fault in (Fault.CUT_BEFORE, Fault.LOSE_ANSWER, Fault.STALL):
            proxy.once(fault, lambda request: request.is_append)
            await _create(store, fault.name.lower().replace("_", "-"))
            proxy.release()
        proxy.down = True
        proxy.cut_all()
        with pytest.raises(StoreError) as caught:
            await store.head()
        proxy.down = False
        await until(lambda: store.position == 3)
    said = "".join(traceback.format_exception(caught.value))
    for text in (caplog.text, said, repr(store), repr(caught.value)):
        assert PASSWORD not in text
        assert SECRET not in text


async def _create(store: Store, name: str) -> None:
    created = await store.create("Secret", name, spec={"data": SECRET})
    assert SECRET not in repr(created)
    assert SECRET not in str([created])


async def test_the_repr_of_what_is_handed_out_shows_no_spec() -> None:
    async with evstore.open() as store:
        created = await store.create("Secret", "key", spec={"data": SECRET})
        page = await store.list("Secret")
        (event,) = [event async for event in store.events()]
        for thing in (created, page, event, [created], store):
            assert SECRET not in repr(thing)
            assert SECRET not in str(thing)


async def test_an_error_about_a_spec_shows_no_value_of_it() -> None:
    class Secret(msgspec.Struct):
        data: int

    async with evstore.open(types=[Secret]) as store:
        for spec in ({"data": SECRET}, {"data": SECRET, "n": float("nan")}):
            with pytest.raises(StoreError) as caught:
                await store.create("Secret", "key", spec=spec)
            assert SECRET not in str(caught.value)
