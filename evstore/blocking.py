"""The store for control planes that run on threads: the same methods, waiting.

    with evstore.blocking.open(config) as store:
        mesh = store.create("Mesh", "default", spec={})

One event loop in a thread of its own runs the store; calls from any number of threads
go there through anyio's portal. Arguments, results and errors are those of
`evstore.Store`, from which this class takes its methods: there is no second
implementation that could drift. `blocking.pyi`, made by `scripts/blocking_stub.py`,
tells type checkers and editors what they are.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from anyio.from_thread import start_blocking_portal

from .errors import UnavailableError
from .store import Store as AsyncStore, open as open_async

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from anyio.from_thread import BlockingPortal

    from .config import Config
    from .folds.projection import Projection
    from .schemas import Schema, Upcaster

State = TypeVar("State")

__all__ = ["Store", "open"]


@contextmanager
def open(  # noqa: A001 - evstore.blocking.open reads as it should
    config: Config | None = None,
    *,
    types: Iterable[type[Any] | Schema] = (),
    upcasters: Iterable[Upcaster] = (),
    projections: Iterable[Projection[Any]] = (),
) -> Generator[Store]:
    """Open the store that `config` names; see `evstore.open`."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(
            open_async(
                config, types=types, upcasters=upcasters, projections=projections
            )
        ) as store,
    ):
        waiting = Store(store, portal)
        try:
            yield waiting
        finally:
            waiting.close()


class Store:
    """An `evstore.Store` whose methods wait; made by `open`.

    `events` and `watch` return plain iterators, `transaction` a plain context manager.
    A watch in another thread ends when the store is closed, at once: what it has not
    yielded by then, a later watch yields from its position on.
    """

    def __init__(self, store: AsyncStore, portal: BlockingPortal) -> None:
        self._store = store
        self._portal = portal
        self._closed = False

    def close(self) -> None:
        """Refuse calls from now on; `open` closes the store itself."""
        self._closed = True

    def view(self, projection: type[Projection[State]]) -> State:
        """Return a copy of a projection's state, made where nothing changes it.

        The caller's own: it stays as it is. Otherwise as `evstore.Store.view`.
        """
        copied = self._store._copied_view  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        state: State = self._wait(lambda: copied(projection))
        return state

    def __dir__(self) -> list[str]:
        """List the methods of the store besides one's own attributes."""
        return sorted({*super().__dir__(), *dir(self._store)})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        attribute = getattr(self._store, name)
        if not inspect.ismethod(attribute):
            return attribute

        @functools.wraps(attribute)
        def method(*args: Any, **kwargs: Any) -> Any:
            return self._wait(functools.partial(attribute, *args, **kwargs))

        return method

    def _wait(self, call: Callable[[], Any]) -> Any:
        """Make a call in the store's thread, and turn what it gives into its twin."""
        if self._closed:
            message = "the store is closed"
            raise UnavailableError(message)
        result = self._portal.call(call)
        if isinstance(result, AbstractAsyncContextManager):
            manager = cast("AbstractAsyncContextManager[Any]", result)
            return self._portal.wrap_async_context_manager(manager)
        if isinstance(result, AsyncGenerator):
            return self._iterate(cast("AsyncGenerator[Any]", result))
        return result

    def _iterate(self, source: AsyncGenerator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    item = self._portal.call(source.__anext__)
                except StopAsyncIteration:
                    return
                yield item
        except GeneratorExit:
            self._portal.call(source.aclose)
            raise
        except RuntimeError:
            # The portal has ended with the store, and with it what was iterated.
            if not self._closed:
                raise
