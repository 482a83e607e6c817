"""What is champion is one row in one table: decisions, going back, refusals, and the aliases that mirror it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import get_engine, session_for_jobs, session_for_user
from app.errors import ArtefactRefused, Conflict, DatabaseUnavailable, InvalidInput, NotFound
from app.ml import registry
from app.ml.artefact import Artefact, encode_artefact
from app.ml.registry import RegisteredVersion
from app.ml.tracking import artefact_root, open_tracking
from app.services import deployments, users, version_catalogue
from app.services.deployments import Current
from app.services.installation import ensure_user
from app.services.model_aliases import mirror_aliases
from app.services.model_versions import add_version, open_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.services.deployments import Deployment

BY = {"actor": "ada", "reason": "It is better."}


def promote(version: int, category_set: int | None = None) -> Deployment:
    with session_for_jobs() as session:
        return deployments.promote(session, category_set, version, **BY)


def rollback(category_set: int | None = None) -> Deployment:
    with session_for_jobs() as session:
        return deployments.rollback(session, category_set, **BY)


def now(category_set: int | None = None) -> Current:
    with session_for_jobs() as session:
        return deployments.current(session, category_set)


def actions(category_set: int | None = None) -> list[tuple[str, int, int | None]]:
    with session_for_jobs() as session:
        rows = deployments.history(session, category_set)
    return [(row.action, row.version, row.replaced_version) for row in reversed(rows)]


def file_of(version: int, category_set: int | None = None) -> Path:
    with session_for_jobs() as session:
        rows = {row.version: row for row in version_catalogue.list_versions(session, category_set)}
    return artefact_root() / rows[version].artefact_name


def aliases() -> dict[str, int]:
    client, _ = open_tracking()
    there = client.get_registered_model("transaction-category").aliases
    return {alias: int(version) for alias, version in there.items()}


@pytest.fixture
def versions(make_version: Callable[..., int]) -> list[int]:
    """Three versions of the shared set."""
    return [make_version() for _ in range(3)]


def test_the_last_version_that_was_promoted_is_champion(versions: list[int]) -> None:
    first, second, _ = versions
    assert now() == Current(None, None)
    assert promote(first).replaced_version is None
    made = promote(second)
    assert (made.version, made.replaced_version, made.actor, made.reason) == (second, first, "ada", "It is better.")
    assert now() == Current(second, None)


def test_going_back_again_goes_further_back_until_there_is_nothing(versions: list[int]) -> None:
    first, second, third = versions
    with pytest.raises(Conflict, match="no champion"):
        rollback()
    for version in versions:
        promote(version)
    assert (rollback().version, rollback().version) == (second, first)
    with pytest.raises(Conflict, match="nothing to go back to"):
        rollback()
    assert now().champion == first
    # A version that is promoted a second time replaced another one then.
    promote(third)
    promote(second)
    promote(third)
    assert [rollback().version for _ in range(3)] == [second, third, first]
    with pytest.raises(Conflict, match="nothing to go back to"):
        rollback()


def test_after_a_retirement_there_is_nothing_to_go_back_to(versions: list[int]) -> None:
    for version in versions[:2]:
        promote(version)
    with session_for_jobs() as session:
        deployments.retire_champion(session, None, **BY)
    with pytest.raises(Conflict, match="no champion"):
        rollback()
    assert promote(versions[2]).replaced_version is None
    with pytest.raises(Conflict, match="replaced no other"):
        rollback()
    promote(versions[0])
    assert rollback().version == versions[2]


def test_a_challenger_is_replaced_withdrawn_and_promoted(versions: list[int]) -> None:
    first, second, third = versions
    promote(first)
    with session_for_jobs() as session:
        deployments.challenge(session, None, second, **BY)
        deployments.challenge(session, None, third, **BY)
        assert deployments.current(session, None) == Current(first, third)
        deployments.withdraw(session, None, **BY)
        assert deployments.current(session, None) == Current(first, None)
        deployments.challenge(session, None, second, **BY)
        deployments.promote(session, None, second, **BY)
        assert deployments.current(session, None) == Current(second, None)
    assert actions()[-3:] == [("challenge", second, None), ("withdraw", second, None), ("promote", second, first)]


def test_a_refusal_is_on_record_and_changes_nothing(versions: list[int]) -> None:
    first, second, _ = versions
    promote(first)
    with session_for_jobs() as session:
        deployments.record_refusal(session, None, second, actor="lm train", reason="Worse by 0.8 points.")
        assert deployments.current(session, None) == Current(first, None)
        refusal, *_ = deployments.history(session, None)
    assert (refusal.action, refusal.version, refusal.reason) == ("refuse", second, "Worse by 0.8 points.")
    with pytest.raises(Conflict, match="nothing to go back to"):
        rollback()


@pytest.mark.parametrize("decision", ["promote", "challenge", "withdraw"])
def test_what_is_so_already_is_no_decision(versions: list[int], decision: str) -> None:
    promote(versions[0])
    before = actions()
    arguments: list[Any] = [] if decision == "withdraw" else [versions[0]]
    with pytest.raises(Conflict), session_for_jobs() as session:
        getattr(deployments, decision)(session, None, *arguments, **BY)
    assert actions() == before


@pytest.mark.parametrize("words", [{"actor": " "}, {"reason": ""}, {"reason": "x" * 1001}, {"reason": "a\0b"}])
def test_who_and_why_must_be_said(versions: list[int], words: dict[str, str]) -> None:
    with pytest.raises(InvalidInput), session_for_jobs() as session:
        deployments.promote(session, None, versions[0], **BY | words)
    assert now().champion is None


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "pickle", "link"])
def test_a_version_whose_file_is_broken_is_refused_and_the_old_champion_stays(
    versions: list[int], damage: str, tmp_path: Path
) -> None:
    first, second, third = versions
    promote(first)
    promote(second)
    for broken in (first, third):
        path = file_of(broken)
        content = path.read_bytes()
        path.unlink()
        if damage == "link":
            (tmp_path / str(broken)).write_bytes(content)
            path.symlink_to(tmp_path / str(broken))
        elif damage != "remove":
            flipped = content[:-1] + bytes([content[-1] ^ 1])
            path.write_bytes({"flip": flipped, "truncate": content[:-1], "pickle": b"\x80\x04."}[damage])
    before = actions()
    with pytest.raises(ArtefactRefused):
        promote(third)
    with pytest.raises(ArtefactRefused):
        rollback()
    with pytest.raises(ArtefactRefused), session_for_jobs() as session:
        deployments.challenge(session, None, third, **BY)
    assert now() == Current(second, None)
    assert actions() == before


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b"])
def test_a_stored_name_that_leads_out_of_the_folder_is_refused(make_version: Callable[..., int], name: str) -> None:
    version = make_version()
    with session_for_jobs() as session:
        run_id = session.execute(text("SELECT run_id FROM model_versions")).scalar_one()
        add_version(session, None, run_id, RegisteredVersion(version + 1, "x", name, "0" * 64, "r"))
    with pytest.raises(ArtefactRefused, match="no name of a model's file"):
        promote(version + 1)


def test_a_number_that_is_taken_is_not_given_to_another_model(make_version: Callable[..., int]) -> None:
    version = make_version()
    with session_for_jobs() as session:
        run_id = session.execute(text("SELECT run_id FROM model_versions")).scalar_one()
        with pytest.raises(Conflict, match="MLflow's database"):
            add_version(session, None, run_id, RegisteredVersion(version, "x", "y", "0" * 64, "r"))


def test_a_training_that_was_killed_before_it_was_kept_leaves_the_champion_and_the_next_one_works(
    make_version: Callable[..., int],
) -> None:
    first = make_version()
    promote(first)
    nothing_much = encode_artefact({}, dict.fromkeys(registry.CARD_FIELDS, ""))
    registry.log_training(registry.TrainingRecord(None, "d" * 64, {}, {}, nothing_much))
    assert now() == Current(first, None)
    second = make_version()
    assert second == first + 2
    promote(second)
    mirror_aliases()
    assert aliases() == {"champion": second}


# --- whose ----------------------------------------------------------------------------------------------------------


def test_each_category_set_has_a_champion_of_its_own(make_version: Callable[..., int]) -> None:
    ada, bob = ensure_user("ada"), ensure_user("bob")
    shared, adas, bobs = make_version(), make_version(ada), make_version(bob)
    promote(shared)
    promote(adas, ada)
    for category_set, version in ((bob, adas), (None, adas), (ada, shared), (bob, shared), (ada, 10**6)):
        with pytest.raises(NotFound, match="lm models list"):
            promote(version, category_set)
    assert (now(), now(ada), now(bob)) == (Current(shared, None), Current(adas, None), Current(None, None))
    with session_for_jobs() as session:
        assert [row.version for row in version_catalogue.list_versions(session, bob)] == [bobs]


def test_a_user_has_the_shared_set_until_an_import_brings_their_own(user_id: int) -> None:
    with session_for_jobs() as session:
        assert deployments.category_set_of(session, user_id) is None
        session.execute(text("UPDATE users SET own_categories = true"))
        assert deployments.category_set_of(session, user_id) == user_id


def test_a_request_reads_what_serves_its_user(make_version: Callable[..., int], user_id: int) -> None:
    other = ensure_user("other")
    own, theirs = make_version(user_id), make_version(other)
    promote(own, user_id)
    promote(theirs, other)
    with session_for_jobs() as session:
        session.execute(text("UPDATE users SET own_categories = true"))
    with session_for_user(user_id) as session:
        assert deployments.current(session, user_id).champion == own
        assert deployments.current(session, other).champion is None
        assert isinstance(open_version(session, user_id, own), Artefact)
        with pytest.raises(NotFound):
            open_version(session, other, theirs)


def test_two_decisions_at_once_are_made_one_after_the_other(versions: list[int]) -> None:
    first, second, third = versions
    promote(first)
    outcome: list[int | None] = []
    with session_for_jobs() as session:
        deployments.promote(session, None, second, **BY)
        waiting = threading.Thread(target=lambda: outcome.append(promote(third).replaced_version))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(10)
    assert outcome == [second]
    assert rollback().version == second


# --- MLflow's aliases -----------------------------------------------------------------------------------------------


def test_aliases_say_what_the_table_says_and_are_plain_while_one_set_has_models(
    make_version: Callable[..., int], user_id: int
) -> None:
    own, next_own = make_version(user_id), make_version(user_id)
    promote(own, user_id)
    with session_for_jobs() as session:
        deployments.challenge(session, user_id, next_own, **BY)
    for _ in range(2):
        mirror_aliases()
        assert aliases() == {"champion": own, "challenger": next_own}
    shared = make_version()
    promote(shared)
    promote(next_own, user_id)
    mirror_aliases()
    assert aliases() == {"champion": shared, f"champion-{user_id}": next_own}
    client, _ = open_tracking()
    client.set_registered_model_alias("transaction-category", "champion", str(own))
    mirror_aliases()
    assert aliases()["champion"] == shared


def test_a_mirror_that_fails_is_logged_and_mended_by_the_next(
    versions: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    promote(versions[0])
    mirror_aliases()
    promote(versions[1])

    def fail(_wanted: object) -> None:
        raise DatabaseUnavailable("MLflow's database cannot be reached.")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(registry, "set_aliases", fail)
        mirror_aliases()
    assert "cannot be reached" in caplog.text
    assert (now().champion, aliases()) == (versions[1], {"champion": versions[0]})
    mirror_aliases()
    assert aliases() == {"champion": versions[1]}


def test_with_a_user_go_the_files_runs_and_versions_of_their_own_models(make_version: Callable[..., int]) -> None:
    ada, bob = ensure_user("ada"), ensure_user("bob")
    adas, bobs = make_version(ada), make_version(bob)
    promote(adas, ada)
    promote(bobs, bob)
    mirror_aliases()
    path, kept = file_of(adas, ada), file_of(bobs, bob)
    with Session(get_engine("jobs")) as session:
        users.remove_user(session, ada)
        session.rollback()
    assert path.exists()
    with session_for_jobs() as session:
        users.remove_user(session, ada)
        assert path.exists(), "the erasure is not committed yet"
    assert not path.exists()
    assert kept.exists()
    assert aliases() == {"champion": bobs}
    client, experiment_id = open_tracking()
    runs = client.search_runs([experiment_id], filter_string=f"tags.category_set = '{ada}'")
    assert list(runs) == []
