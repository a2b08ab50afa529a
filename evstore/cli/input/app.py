"""`--app package.module:factory`: the types, upcasters and projections of an embedder."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from evstore.app import App
from evstore.cli.session import UsageError

if TYPE_CHECKING:
    from types import ModuleType


def load_app(reference: str, *, option: str = "--app") -> App:
    """Import what `package.module:factory` names, call it, and return its App.

    Modules are looked for in the current folder first, as with `python -m`.

    Raises:
        UsageError: it does not lead to an App; the message says why, in one line.
    """
    where = f"{option} {reference}"
    module_name, colon, name = reference.partition(":")
    if not (colon and _is_dotted(module_name) and name.isidentifier()):
        _refuse(where, "it must be package.module:factory")
    module = _imported(module_name, where)
    try:
        factory = getattr(module, name)
    except AttributeError as error:
        _refuse(where, f"module {module_name} has no {name}", error)
    if isinstance(factory, App):
        _refuse(where, f"{name} is an App; name a function that returns it")
    if not callable(factory):
        _refuse(where, f"{name} is {_kind(factory)}, not a function")
    try:
        app = factory()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it does
        _refuse(where, f"{name}() failed: {_said(error)}", error)
    if inspect.iscoroutine(app):
        app.close()  # or Python complains that nobody has awaited it
        _refuse(where, f"{name} is async; it must be a plain function")
    if not isinstance(app, App):
        _refuse(where, f"{name}() returned {_kind(app)}, not an evstore.App")
    return app


def app_of(reference: str | None, *, option: str = "--app") -> App | None:
    """Return the App that `option` names; None where it is not given.

    Raises:
        UsageError: it does not lead to an App.
    """
    return None if reference is None else load_app(reference, option=option)


def _imported(module_name: str, where: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109 - as in sys.path, a text
    if sys.path[:1] not in ([here], [""]):
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it does
        if _is_missing(module_name, error):
            _refuse(where, f"there is no module {module_name}", error)
        _refuse(where, f"cannot import {module_name}: {_said(error)}", error)


def _is_missing(module_name: str, error: BaseException) -> bool:
    """Return whether the module itself is not there, or a package that it is in."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return False
    return f"{module_name}.".startswith(f"{error.name}.")


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _said(error: BaseException) -> str:
    """Return what an error is and says, in one line."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


def _refuse(where: str, reason: str, cause: BaseException | None = None) -> NoReturn:
    raise UsageError(f"{where}: {reason}") from cause
