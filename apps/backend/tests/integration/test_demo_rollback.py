"""The demo times a rollback and goes on with its champion, whatever came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rivals import BECAUSE

from app.db import session_for_jobs
from app.services import demo_experiment, deployments
from app.services.demo_experiment import time_rollback
from app.services.served_models import ModelServer

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def champion(user_id: int, make_version: Callable[..., int]) -> int:
    """A champion that replaced another, of the shared category set."""
    assert user_id
    former, version = make_version(), make_version()
    with session_for_jobs() as session:
        deployments.promote(session, None, former, **BECAUSE)
        deployments.promote(session, None, version, **BECAUSE)
    return version


def current() -> int | None:
    with session_for_jobs() as session:
        return deployments.current(session, None).champion


def test_a_rollback_that_a_server_follows_is_timed_and_taken_back(champion: int) -> None:
    milliseconds = time_rollback(None)
    assert milliseconds is not None
    assert milliseconds > 0
    assert current() == champion


def test_a_server_that_does_not_follow_leaves_the_champion_in_its_place(
    champion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_experiment, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(ModelServer, "_follow", lambda _, connection: connection.close())
    assert time_rollback(None) is None
    assert current() == champion


def test_where_there_is_nothing_left_to_go_back_to_nothing_is_timed(champion: int) -> None:
    with session_for_jobs() as session:
        before = deployments.rollback(session, None, **BECAUSE)
    assert before.replaced_version == champion
    assert time_rollback(None) is None
    assert current() == before.version


def test_an_interrupt_does_too(champion: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_experiment, "_wait_for", interrupt)
    with pytest.raises(KeyboardInterrupt):
        time_rollback(None)
    assert current() == champion
