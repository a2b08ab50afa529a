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


def load_app(reference: str) -> App:
    """Import what `package.module:factory` names, call it, and return its App.

    Modules are looked for in the current folder first, as with `python -m`.

    Raises:
        UsageError: it does not lead to an App; the message says why, in one line.
    """
    module_name, colon, name = reference.partition(":")
    if not (colon and _is_dotted(module_name) and name.isidentifier()):
        _refuse(reference, "it must be package.module:factory")
    module = _imported(module_name, reference)
    try:
        factory = getattr(module, name)
    except AttributeError as error:
        _refuse(reference, f"module {module_name} has no {name}", error)
    if isinstance(factory, App):
        _refuse(reference, f"{name} is an App; name a function that returns it")
    if not callable(factory):
        _refuse(reference, f"{name} is {_kind(factory)}, not a function")
    try:
        app = factory()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it does
        _refuse(reference, f"{name}() failed: {_said(error)}", error)
    if inspect.iscoroutine(app):
        app.close()  # or Python complains that nobody has awaited it
        _refuse(reference, f"{name} is async; it must be a plain function")
    if not isinstance(app, App):
        _refuse(reference, f"{name}() returned {_kind(app)}, not an evstore.App")
    return app


def _imported(module_name: str, reference: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109 - as in sys.path, a text
    if sys.path[:1] not in ([here], [""]):
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it does
        if _is_missing(module_name, error):
            _refuse(reference, f"there is no module {module_name}", error)
        _refuse(reference, f"cannot import {module_name}: {_said(error)}", error)


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


def _refuse(
    reference: str, reason: str, cause: BaseException | None = None
) -> NoReturn:
    raise UsageError(f"--app {reference}: {reason}") from cause
