"""The error tree: each error tells the caller what to do."""

from __future__ import annotations

import pytest

from evstore import errors
from evstore.errors import (
    AlreadyExistsError,
    CompactedError,
    ConfigError,
    ConflictError,
    DivergedError,
    InvalidError,
    NotFoundError,
    OutcomeUnknownError,
    SchemaError,
    StoreError,
    UnavailableError,
)
from evstore.model import Key

WEB = Key(type="Dataplane", mesh="default", name="web")
ALL = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, StoreError)
]


def test_the_tree_is_the_one_that_was_promised() -> None:
    assert {error: error.__base__ for error in ALL} == {
        StoreError: Exception,
        NotFoundError: StoreError,
        AlreadyExistsError: StoreError,
        ConflictError: StoreError,
        InvalidError: StoreError,
        CompactedError: StoreError,
        DivergedError: StoreError,
        SchemaError: StoreError,
        ConfigError: StoreError,
        UnavailableError: StoreError,
        OutcomeUnknownError: UnavailableError,
    }


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = errors.__doc__ or ""
    assert all(error.__name__ in drawn for error in ALL)


def test_only_what_was_not_applied_for_certain_may_be_tried_again_as_it_is() -> None:
    assert [error for error in ALL if error.retryable] == [UnavailableError]


@pytest.mark.parametrize("error", ALL)
def test_without_a_message_an_error_gives_its_advice(error: type[StoreError]) -> None:
    message = str(error())
    own = {CompactedError, OutcomeUnknownError}  # these know more
    if error not in own:
        assert message == (error.__doc__ or "").splitlines()[0]
    assert message


@pytest.mark.parametrize("error", ALL)
def test_a_message_takes_the_place_of_the_advice(error: type[StoreError]) -> None:
    assert str(error("so it is")) == "so it is"


def test_an_error_of_an_embedders_own_needs_no_docstring() -> None:
    class OwnError(StoreError):
        pass

    assert str(OwnError()) == "OwnError"


def test_errors_name_the_resource_and_both_versions() -> None:
    assert str(NotFoundError(key=WEB)) == "Dataplane web in mesh default not found"
    exists = AlreadyExistsError(key=WEB, version=3)
    assert str(exists).endswith("already exists, at version 3")
    assert (exists.key, exists.version) == (WEB, 3)
    changed = ConflictError(key=WEB, expected=3, actual=5)
    assert str(changed).endswith("is not at version 3: it is at version 5")
    assert (changed.key, changed.expected, changed.actual) == (WEB, 3, 5)
    gone = ConflictError(key=WEB, expected=3)
    assert str(gone).endswith("is not at version 3: it does not exist")
    assert gone.actual is None


def test_errors_carry_what_the_caller_needs() -> None:
    assert str(InvalidError("must be 1", path="spec.a")) == "spec.a: must be 1"
    assert InvalidError("must be 1", path="spec.a").path == "spec.a"
    assert CompactedError(oldest=7).oldest == 7
    assert "7" in str(CompactedError(oldest=7))
    unknown = OutcomeUnknownError(request_id="r-1")
    assert unknown.request_id == "r-1"
    assert "r-1" in str(unknown)
