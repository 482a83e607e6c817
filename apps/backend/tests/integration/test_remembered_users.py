"""What a process remembers of users is what reading all anew would give, whatever happens at the same time."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from app.db import database_url, session_for_jobs, session_for_user
from app.errors import NotFound
from app.ml.feature_build import build_range
from app.request_pool import (
    MOST_CONNECTIONS,
    RequestTransaction,
    WaitFirst,
    close_request_pool,
    request_pool,
    request_transaction,
)
from app.services import model_answers, remembered_users
from app.services.answering import answer
from app.services.heuristics import Habits, read_habits
from app.services.labels import remove_labels, write_labels
from app.services.model_answers import model_evidence
from app.services.remembered_users import Waited, look_at, read_asked
from app.services.served_models import SERVER
from app.services.suggestions import suggest
from app.services.user_knowledge import UserKnowledge, read_knowledge
from app.services.users import remove_user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from sqlalchemy.orm import Session

    from app.ml.evidence import Evidence
    from app.ml.label_memory import GivenLabel
    from app.ml.serving import LabelSpace
    from app.request_pool import Connection, Cursor
    from app.services.answering import Answer
    from app.services.asked_transactions import AskedTransaction
    from app.services.suggestions import Suggestions
    from tests.integration.conftest import Ledger

BECAUSE = {"actor": "a test", "reason": "to see"}
PATIENCE_SECONDS = 60
SHOPS = ("2025-02-01,NEW SHOP,-3.50,card,", "2025-02-02,NEW SHOP,-3.50,card,")


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The users that were read, each time that one was; it takes half a second, as of a large ledger."""
    seen: list[int] = []

    def read_slowly(user_id: int) -> UserKnowledge:
        seen.append(user_id)
        known = read_knowledge(user_id)
        time.sleep(0.5)
        return known

    monkeypatch.setattr(remembered_users, "read_knowledge", read_slowly)
    return seen


def in_one_process(ledger: Ledger, work: Coroutine[None, None, None]) -> None:
    async def run() -> None:
        try:
            await asyncio.wait_for(work, PATIENCE_SECONDS)
        finally:
            await close_request_pool()

    SERVER.look_once(ledger.user_id)
    asyncio.run(run())


async def label(ledger: Ledger, *txn_ids: int, category: str = "Household") -> None:
    def write() -> None:
        with session_for_user(ledger.user_id) as session:
            write_labels(session, dict.fromkeys(txn_ids, category), source="human")

    await asyncio.to_thread(write)


async def take_back(ledger: Ledger, txn_id: int) -> None:
    def remove() -> None:
        with session_for_user(ledger.user_id) as session:
            remove_labels(session, [txn_id])

    await asyncio.to_thread(remove)


def ask(ledger: Ledger, txn_id: int) -> Coroutine[None, None, Suggestions]:
    return suggest(ledger.user_id, [txn_id], min_confidence=0.0)


def now() -> Waited:
    """A request that begins now."""
    return Waited(since=time.monotonic())


def confidences(made: Suggestions) -> dict[str, float]:
    return {each.label: each.confidence for each in made.suggestions[0].candidates}


async def read_anew(ledger: Ledger, txn_id: int) -> dict[str, float]:
    remembered_users.KNOWN.clear()
    return confidences(await ask(ledger, txn_id))


@pytest.mark.usefixtures("champion")
def test_a_label_is_not_missed_by_who_looked_before_anything_was_remembered(labelled: Ledger) -> None:
    first, asked = labelled.add(*SHOPS)

    async def work() -> None:
        early = look_at(labelled.user_id, [asked], None, now())
        await ask(labelled, asked)
        await label(labelled, first)
        with pytest.raises(WaitFirst):
            async with request_transaction(labelled.user_id, early.query) as transaction:
                await read_asked(transaction, early, now())
        remembered = confidences(await ask(labelled, asked))
        assert next(iter(remembered)) == "Household"
        assert remembered == await read_anew(labelled, asked)

    in_one_process(labelled, work())


@pytest.mark.usefixtures("champion")
def test_a_label_written_while_all_is_read_counts_for_who_asks_then(labelled: Ledger, readings: list[int]) -> None:
    first, asked = labelled.add(*SHOPS)

    async def work() -> None:
        early = asyncio.ensure_future(ask(labelled, asked))
        await asyncio.sleep(0.2)
        await label(labelled, first)
        late = confidences(await ask(labelled, asked))
        await early
        assert readings == [labelled.user_id]
        assert next(iter(late)) == "Household"
        assert late == confidences(await ask(labelled, asked)) == await read_anew(labelled, asked)

    in_one_process(labelled, work())


@pytest.mark.usefixtures("champion")
def test_many_at_once_read_once_and_keep_no_connection_waiting(
    labelled: Ledger, ledger_of: Callable[[str], Ledger], readings: list[int]
) -> None:
    first, asked = labelled.add(*SHOPS)
    other = ledger_of("other")
    (theirs,) = other.add("2025-01-01,ALDI,-1.50,card,Groceries")

    async def work() -> None:
        together = [asyncio.ensure_future(ask(labelled, asked)) for _ in range(3 * MOST_CONNECTIONS)]
        await asyncio.sleep(0.25)
        assert (await request_pool()).get_stats()["requests_waiting"] == 0
        await asyncio.wait_for(ask(other, theirs), 5)
        await label(labelled, first)
        assert {len(made.suggestions) for made in await asyncio.gather(*together)} == {1}
        assert sorted(readings) == sorted([labelled.user_id, other.user_id])
        assert confidences(await ask(labelled, asked)) == await read_anew(labelled, asked)

    in_one_process(labelled, work())


@pytest.mark.usefixtures("champion")
def test_answers_at_once_see_every_label_however_they_overtake_each_other(labelled: Ledger) -> None:
    *shops, asked = labelled.add(*[f"2025-02-{day:02},NEW SHOP,-3.50,card," for day in range(1, 28)])

    async def work() -> None:
        await ask(labelled, asked)
        for number, shop in enumerate(shops):
            category = ("Household", "Fuel", "Groceries")[number % 3]
            await asyncio.gather(label(labelled, shop, category=category), *[ask(labelled, asked) for _ in range(5)])
        assert confidences(await ask(labelled, asked)) == pytest.approx(await read_anew(labelled, asked), abs=1.1e-4)

    in_one_process(labelled, work())


@pytest.mark.usefixtures("champion")
def test_a_process_that_has_no_room_for_two_users_answers_both(
    labelled: Ledger, ledger_of: Callable[[str], Ledger], monkeypatch: pytest.MonkeyPatch, readings: list[int]
) -> None:
    other = ledger_of("other")
    theirs, *_ = other.add(*[f"2025-01-{day:02},ALDI,-{day}.50,card,Groceries" for day in range(1, 20)])
    (mine,) = labelled.add("2025-02-01,NEW SHOP,-3.50,card,")
    monkeypatch.setattr(remembered_users, "MOST_LABELS", 20)

    async def work() -> None:
        for _ in range(2):
            both = await asyncio.gather(ask(labelled, mine), ask(other, theirs))
            assert [len(made.suggestions) for made in both] == [1, 1]
            assert len(remembered_users.KNOWN) == 1

    in_one_process(labelled, work())
    assert len(readings) >= 3


@pytest.mark.usefixtures("champion")
def test_who_was_asked_about_last_is_the_last_to_go(
    labelled: Ledger, ledger_of: Callable[[str], Ledger], monkeypatch: pytest.MonkeyPatch, readings: list[int]
) -> None:
    other = ledger_of("other")
    (theirs,) = other.add("2025-01-01,ALDI,-1.50,card,Groceries")
    (mine,) = labelled.add("2025-02-01,NEW SHOP,-3.50,card,")

    async def work() -> None:
        await ask(labelled, mine)
        await ask(other, theirs)
        assert list(remembered_users.KNOWN) == [labelled.user_id, other.user_id]
        labels = sum(len(each.memory.given) for each in remembered_users.KNOWN.values())
        monkeypatch.setattr(remembered_users, "MOST_LABELS", labels)
        await asyncio.to_thread(labelled.add, "2025-03-01,LIDL,-1.50,card,Groceries")
        await ask(labelled, mine)
        assert list(remembered_users.KNOWN) == [labelled.user_id]
        assert readings == [labelled.user_id, other.user_id, labelled.user_id]

    in_one_process(labelled, work())


@pytest.mark.usefixtures("champion")
def test_what_an_overtaken_request_found_takes_nothing_back(labelled: Ledger) -> None:
    first, asked = labelled.add(*SHOPS)

    async def work() -> None:
        await ask(labelled, asked)
        await label(labelled, first, category="Fuel")
        async with overtaken(labelled, asked) as (held_up, reading):
            await label(labelled, first)
            await ask(labelled, asked)
            late = look_at(labelled.user_id, [asked], None, now())
            async with request_transaction(labelled.user_id, late.query) as another:
                held_up.may_go_on.set()
                await reading
                await read_asked(another, late, now())
        remembered = confidences(await ask(labelled, asked))
        assert next(iter(remembered)) == "Household"
        assert remembered == await read_anew(labelled, asked)

    in_one_process(labelled, work())


@pytest.mark.usefixtures("champion")
def test_what_an_overtaken_request_found_takes_nothing_back_while_something_else_is_being_written(
    labelled: Ledger,
) -> None:
    first, asked = labelled.add(*SHOPS)
    url = database_url("admin").set(drivername="postgresql").render_as_string(hide_password=False)

    async def work() -> None:
        await ask(labelled, asked)
        with psycopg.connect(url) as long:
            long.execute("SELECT pg_current_xact_id()")
            await label(labelled, first, category="Fuel")
            async with overtaken(labelled, asked) as (held_up, reading):
                await label(labelled, first)
                await ask(labelled, asked)
                held_up.may_go_on.set()
                known, _ = await reading
            assert known.memory.given[first].label == "Household"

    in_one_process(labelled, work())


@asynccontextmanager
async def overtaken(ledger: Ledger, asked: int) -> AsyncIterator[tuple[HeldUp, asyncio.Future[Any]]]:
    """Let a request find labels that have moved, and hold it up before it moves them itself."""
    look = look_at(ledger.user_id, [asked], None, now())
    async with request_transaction(ledger.user_id, look.query) as transaction:
        held_up = HeldUp(transaction.connection)
        slow = RequestTransaction(held_up, transaction.first)  # type: ignore[arg-type]
        reading = asyncio.ensure_future(read_asked(slow, look, now()))
        await held_up.has_labels.wait()
        yield held_up, reading


class HeldUp:
    """A connection whose second answer takes its time."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.count = 0
        self.has_labels, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def execute(self, *args: Any) -> Cursor:
        cursor = await self.connection.execute(*args)
        self.count += 1
        if self.count == 2:
            self.has_labels.set()
            await self.may_go_on.wait()
        return cursor


@pytest.mark.usefixtures("champion")
def test_many_labels_are_read_once_also_while_something_else_is_being_written(
    labelled: Ledger, monkeypatch: pytest.MonkeyPatch, readings: list[int]
) -> None:
    ids = labelled.add(*[f"2025-02-{day:02},NEW SHOP,-3.50,card," for day in range(1, 20)])
    monkeypatch.setattr(remembered_users, "MOST_MOVED", 5)
    url = database_url("admin").set(drivername="postgresql").render_as_string(hide_password=False)

    async def work() -> None:
        await ask(labelled, ids[0])
        with psycopg.connect(url) as slow:
            slow.execute("SELECT pg_current_xact_id()")
            await label(labelled, *ids)
            for _ in range(5):
                made = await ask(labelled, ids[0])
                assert next(iter(confidences(made))) == "Household"
            assert len(readings) == 2
            assert remembered_users.KNOWN[labelled.user_id].moved == 0
            await take_back(labelled, ids[1])
            await ask(labelled, ids[0])
        assert len(readings) == 2
        assert confidences(await ask(labelled, ids[0])) == await read_anew(labelled, ids[0])

    in_one_process(labelled, work())


@pytest.mark.usefixtures("champion")
def test_a_date_that_is_far_ahead_makes_no_other_label_old(
    labelled: Ledger, admin_connection: psycopg.Connection
) -> None:
    far, long_ago, asked = labelled.add(
        "2199-01-01,NEW SHOP,-3.50,card,", "1900-01-01,OLD SHOP,-1.00,card,", "2025-02-01,ALDI 0041 LEEDS,-3.50,card,"
    )

    async def work() -> None:
        before = confidences(await ask(labelled, asked))
        await label(labelled, far, long_ago)
        after = confidences(await ask(labelled, asked))
        assert after == await read_anew(labelled, asked)
        assert after["Groceries"] > 0.8
        for each in (far, long_ago):
            assert (await ask(labelled, each)).suggestions[0].source == "model"
            await take_back(labelled, each)
            assert (await ask(labelled, asked)).suggestions[0].source == "model"
        assert confidences(await ask(labelled, asked)) == pytest.approx(before, abs=1.1e-4)

    in_one_process(labelled, work())
    count = admin_connection.execute("SELECT count(*) FROM suggestion_events WHERE source <> 'model'").fetchone()
    assert count == (0,)


def test_habits_are_read_once_and_again_when_labels_have_moved(
    labelled: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, asked = labelled.add(*SHOPS)
    count: list[int] = []

    def read(session: Session, user_id: int) -> Habits:
        count.append(user_id)
        return read_habits(session, user_id)

    monkeypatch.setattr(remembered_users, "read_habits", read)

    async def work() -> None:
        await asyncio.gather(*[ask(labelled, asked) for _ in range(5)])
        assert len(count) == 1
        await ask(labelled, asked)
        assert len(count) == 1
        await label(labelled, first)
        assert next(iter(confidences(await ask(labelled, asked)))) == "Household"
        assert len(count) == 2

    in_one_process(labelled, work())


@pytest.mark.parametrize("was_in_use", [True, False])
def test_a_batch_begins_again_when_a_category_comes_into_use(
    labelled: Ledger, champion: int, monkeypatch: pytest.MonkeyPatch, *, was_in_use: bool
) -> None:
    first, *many = labelled.add(*[f"2025-02-{day:02},PET SHOP,-{day}.50,card," for day in range(1, 29)])
    counted: list[int] = []

    def count(asked: AskedTransaction, knowledge: UserKnowledge, space: LabelSpace) -> Evidence:
        counted.append(asked.txn_id)
        return model_evidence(asked, knowledge, space)

    async def bring_into_use(given: GivenLabel) -> None:
        while not counted:  # noqa: ASYNC110 -- it is the turns that count
            await asyncio.sleep(0)
        remembered_users.KNOWN[labelled.user_id].memory.put(first, given)

    async def work() -> None:
        await label(labelled, first, category="Pets" if was_in_use else "Household")
        await ask(labelled, many[0])
        given = remembered_users.KNOWN[labelled.user_id].memory.given[first]._replace(label="Pets")
        await take_back(labelled, first)
        await ask(labelled, many[0])
        monkeypatch.setattr(model_answers, "_SLICE", 5)
        monkeypatch.setattr(model_answers, "model_evidence", count)
        meanwhile = asyncio.ensure_future(bring_into_use(given))
        together = await suggest(labelled.user_id, many, min_confidence=0.0)
        await meanwhile
        assert len(counted) == 5 + len(many)
        alone = await suggest(labelled.user_id, many[-1:], min_confidence=0.0)
        for made in together.suggestions:
            assert made.model_version == str(champion)
            assert made.candidates[0].label == alone.suggestions[0].candidates[0].label

    in_one_process(labelled, work())


@pytest.mark.usefixtures("champion")
def test_features_that_are_built_are_noticed(labelled: Ledger, admin_connection: psycopg.Connection) -> None:
    first, asked = labelled.add(*SHOPS)
    with session_for_user(labelled.user_id) as session:
        write_labels(session, {first: "Household"}, source="human")
    admin_connection.execute("DELETE FROM ml_features WHERE txn_id = ANY(%s)", [[first, asked]])

    async def work() -> None:
        assert confidences(await ask(labelled, asked)) == {}
        await asyncio.to_thread(build_range, dt.date(2025, 1, 1), dt.date(2025, 12, 31))
        assert next(iter(confidences(await ask(labelled, asked)))) == "Household"

    in_one_process(labelled, work())


def test_users_without_labels_take_room_too(
    labelled: Ledger, ledger_of: Callable[[str], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledgers = [ledger_of(f"user {number}") for number in range(4)]
    transactions = [ledger.add("2025-01-01,ALDI,-1.50,card,")[0] for ledger in ledgers]
    monkeypatch.setattr(remembered_users, "MOST_LABELS", 2 * remembered_users.LABELS_PER_USER)

    async def work() -> None:
        for ledger, txn_id in zip(ledgers, transactions, strict=True):
            await ask(ledger, txn_id)
        assert list(remembered_users.KNOWN) == [ledger.user_id for ledger in ledgers[-2:]]

    in_one_process(labelled, work())


def test_a_user_who_is_erased_while_they_are_answered_is_nobody(
    labelled: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (asked,) = labelled.add("2025-02-01,ALDI 0041 LEEDS,-3.50,card,")

    async def answer_late(*args: Any, **options: Any) -> list[Answer]:
        answers = await answer(*args, **options)
        await asyncio.to_thread(erase, labelled.user_id)
        return answers

    async def work() -> None:
        await ask(labelled, asked)
        monkeypatch.setattr("app.services.suggestions.answer", answer_late)
        for _ in range(2):
            with pytest.raises(NotFound, match="no such user"):
                await ask(labelled, asked)

    in_one_process(labelled, work())


def erase(user_id: int) -> None:
    with session_for_jobs() as session:
        remove_user(session, user_id)


@pytest.mark.usefixtures("champion")
def test_who_joins_a_reading_is_answered_by_the_settings_of_now(
    labelled: Ledger, readings: list[int], admin_connection: psycopg.Connection
) -> None:
    (asked,) = labelled.add("2025-02-01,CORNER SHOP,-3.50,card,")

    async def work() -> None:
        early = asyncio.ensure_future(suggest(labelled.user_id, [asked]))
        await asyncio.sleep(0.2)
        admin_connection.execute("UPDATE users SET min_confidence = 0.9999 WHERE id = %s", [labelled.user_id])
        late = await suggest(labelled.user_id, [asked])
        assert late.suggestions[0].abstention == "below_confidence"
        await early

    in_one_process(labelled, work())
    assert len(readings) == 2


@pytest.mark.usefixtures("champion")
def test_who_is_pushed_out_of_memory_while_habits_are_read_is_answered(
    labelled: Ledger, ledger_of: Callable[[str], Ledger], monkeypatch: pytest.MonkeyPatch, readings: list[int]
) -> None:
    other = ledger_of("other")
    theirs, *_ = other.add(*[f"2025-01-{day:02},ALDI,-{day}.50,card,Groceries" for day in range(1, 20)])
    (mine,) = labelled.add("2025-02-01,ALDI 0041 LEEDS,-3.50,card,")
    monkeypatch.setattr(remembered_users, "MOST_LABELS", 20)

    def read_slowly(session: Session, user_id: int) -> Habits:
        time.sleep(0.7)
        return read_habits(session, user_id)

    monkeypatch.setattr(remembered_users, "read_habits", read_slowly)

    async def work() -> None:
        patient = asyncio.ensure_future(suggest(labelled.user_id, [mine], mode="heuristic"))
        await asyncio.sleep(0.1)
        while not patient.done():
            await ask(other, theirs)
        assert patient.result().suggestions[0].candidates
        assert readings.count(labelled.user_id) == 1

    in_one_process(labelled, work())
