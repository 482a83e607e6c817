"""Diff my ledger: what another champion would suggest otherwise, shown before anything is promoted."""

from __future__ import annotations

import json
import re
import shlex
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.db import session_for_jobs, session_for_user
from app.errors import ArtefactRefused, InvalidInput, NotFound
from app.ml.artefact import encode_artefact
from app.ml.tracking import artefact_root
from app.services import deployments, model_versions
from app.services.changed_suggestions import Sum
from app.services.ingest import ingest_statement
from app.services.labels import write_labels
from app.services.model_preview import preview_version
from app.services.rules import RuleDraft, add_rule
from app.services.shared_priors import refresh_shared_priors
from app.services.suggestions import suggest_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import psycopg
    from fastapi.testclient import TestClient

    from app.services.changed_suggestions import ChangedSuggestion, Preview
    from tests.integration.conftest import Ledger

BECAUSE = {"actor": "a test", "reason": "to see"}


@pytest.fixture
def rivals(
    labelled: Ledger, train_version: Callable[[Ledger], int], admin_connection: psycopg.Connection
) -> tuple[int, int]:
    """The champion, and a version that has learnt that ALDI sells fuel from labels that are gone again."""
    champion = train_version(labelled)
    promote(labelled, champion)
    ids = labelled.add(*[f"2025-01-{day:02},ALDI {day} MARKET,-{day}.50,card,Fuel" for day in range(1, 29)])
    other = train_version(labelled)
    with session_for_user(labelled.user_id) as session:
        write_labels(session, dict.fromkeys(ids, "Groceries"), source="human")
    admin_connection.execute("UPDATE transactions SET deleted_at = now() WHERE id = ANY(%s)", [ids])
    admin_connection.execute("DELETE FROM transaction_labels WHERE txn_id = ANY(%s)", [ids])
    # So that doubts are no reason to say nothing.
    admin_connection.execute("UPDATE users SET min_confidence = 0.3")
    return champion, other


def promote(ledger: Ledger, version: int) -> None:
    with session_for_jobs() as session:
        deployments.promote(session, ledger.user_id, version, **BECAUSE)


def changes_of(found: Preview) -> dict[int, ChangedSuggestion]:
    return {change.txn_id: change for merchant in found.merchants for change in merchant.suggestions}


def said_of(found: Preview) -> dict[int, tuple[Any, ...]]:
    """What is suggested now, and then, of transactions whose suggestion would change."""
    return {
        txn_id: (change.before, change.before_confidence, change.after, change.after_confidence)
        for txn_id, change in changes_of(found).items()
    }


def changes_seen(ledger: Ledger, ids: Sequence[int], version: int) -> dict[int, tuple[Any, ...]]:
    """Ask now and once a version is champion; give what is said otherwise."""
    before = best_of(ledger, ids)
    promote(ledger, version)
    after = best_of(ledger, ids)
    return {txn_id: (*before[txn_id], *after[txn_id]) for txn_id in ids if before[txn_id][0] != after[txn_id][0]}


def best_of(ledger: Ledger, ids: Sequence[int]) -> dict[int, tuple[str | None, float | None]]:
    made = suggest_now(ledger.user_id, ids).suggestions
    return {
        each.txn_id: (each.candidates[0].label, each.candidates[0].confidence) if each.candidates else (None, None)
        for each in made
    }


def write_rule(ledger: Ledger, contains: str, category: str) -> None:
    condition = {"match": "all", "conditions": [{"field": "description", "operator": "contains", "value": contains}]}
    draft = {"name": contains, "condition": condition, "category": category, "priority": 0}
    with session_for_user(ledger.user_id) as session:
        add_rule(session, ledger.user_id, RuleDraft.model_validate(draft))


def test_every_change_is_one_that_asking_both_would_show(labelled: Ledger, rivals: tuple[int, int]) -> None:
    champion, other = rivals
    ids = labelled.add(
        *[f"2025-02-{day:02},{shop},-{day}.25,card," for day in (1, 9) for shop in ("ALDI 3 MARKET", "SHELL YORK")]
    )
    with session_for_user(labelled.user_id) as session:
        write_labels(session, {ids[0]: "Groceries"}, source="human")
    found = preview_version(labelled.user_id, other, days=9)
    assert (found.version, found.champion, found.champion_problem) == (other, champion, None)
    assert (found.transactions, str(found.until)) == (4, "2025-02-09")
    assert found.changed == len(changes_of(found)) > 0
    assert said_of(found) == changes_seen(labelled, ids, other)
    in_all = sum(abs(each.amount) for each in changes_of(found).values())
    assert found.sums == (Sum(None, Decimal(in_all)),)


@pytest.mark.parametrize(("threshold", "by_rule"), [(0.3, 1), (0.45, 0)])
def test_a_rule_that_is_not_sure_enough_decides_nothing(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection, threshold: float, by_rule: int
) -> None:
    _, other = rivals
    # All twelve labels of ALDI say that the rule is wrong.
    write_rule(labelled, "aldi", "Household")
    admin_connection.execute("UPDATE users SET min_confidence = %s", [threshold])
    ids = labelled.add("2025-02-01,ALDI 3 MARKET,-3.25,card,")
    found = preview_version(labelled.user_id, other, days=1)
    assert (found.transactions, found.by_rule, found.changed) == (1, by_rule, 1 - by_rule)
    assert said_of(found) == changes_seen(labelled, ids, other)


def test_a_rule_is_as_sure_as_it_is_for_whoever_asks(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    _, other = rivals
    # One label in ten says that the rule is right, and it is as much surer, though two categories come before its own.
    labels = ["Groceries"] * 5 + ["Household"] * 4 + ["Fuel"]
    labelled.add(*[f"2025-01-{day:02},BAZAAR,-{day}.00,card,{label}" for day, label in enumerate(labels, 1)])
    write_rule(labelled, "bazaar", "Fuel")
    admin_connection.execute("UPDATE users SET min_confidence = 0.54")
    (new,) = labelled.add("2025-02-01,BAZAAR,-3.25,card,")
    (made,) = suggest_now(labelled.user_id, [new]).suggestions
    assert (made.source, made.candidates[0].label) == ("rule", "Fuel")
    assert preview_version(labelled.user_id, other, days=1).by_rule == 1


def test_without_a_champion_other_users_are_heard_as_they_are_by_whoever_asks(
    labelled: Ledger,
    ledger_of: Callable[[str], Ledger],
    train_version: Callable[[Ledger], int],
    admin_connection: psycopg.Connection,
) -> None:
    version = train_version(labelled)
    for number in range(5):
        ledger_of(f"other {number}").add(
            "2025-01-01,PLANTOPIA,-1.10,card,Household", "2025-01-01,CORNER SHOP,-1.10,card,Household"
        )
    refresh_shared_priors()
    # What others call a merchant is not heard where one has labels oneself, as of the corner shop one for each of two.
    admin_connection.execute("UPDATE users SET min_confidence = 0.51")
    shops = ("PLANTOPIA", "CORNER SHOP 0077 YORK", "ALDI 0041 LEEDS")
    ids = labelled.add(*[f"2025-02-01,{shop},-9.00,card," for shop in shops])
    found = preview_version(labelled.user_id, version, days=1)
    assert changes_of(found)[ids[0]].before == "Household"
    assert best_of(labelled, ids)[ids[1]] == (None, None)
    assert said_of(found) == changes_seen(labelled, ids, version)


def rewrite(connection: psycopg.Connection, version: int, header: Mapping[str, object], *, without: str = "") -> None:
    """Let a version's file be one of an earlier Ledgermill, or without one of its arrays; its hash is right."""
    with session_for_jobs() as session:
        artefact = model_versions.open_any_version(session, version)
    arrays = {name: array for name, array in artefact.arrays.items() if name != without}
    content = encode_artefact(arrays, {**artefact.header, **header})
    find = "UPDATE model_versions SET sha256 = encode(sha256(%s), 'hex') WHERE version = %s RETURNING artefact_name"
    ((name,),) = connection.execute(find, [content, version]).fetchall()
    (artefact_root() / name).write_bytes(content)


@pytest.mark.parametrize(("field", "value"), [("recipe", "wording-and-counts/0"), ("feature_version", 0)])
def test_a_champion_of_an_older_recipe_gives_way_to_the_heuristics_and_a_new_one_can_be_promoted(
    labelled: Ledger,
    rivals: tuple[int, int],
    admin_connection: psycopg.Connection,
    client: TestClient,
    field: str,
    value: object,
) -> None:
    champion, other = rivals
    rewrite(admin_connection, champion, {field: value})
    admin_connection.execute("DELETE FROM users WHERE id <> %s", [labelled.user_id])
    ids = labelled.add("2025-02-01,ALDI 3 MARKET,-3.25,card,", "2025-02-01,SHELL YORK,-9.00,card,")
    found = preview_version(labelled.user_id, other, days=1)
    problem = found.champion_problem or ""
    assert found.champion is None
    assert problem.startswith(f"Version {champion} is the champion and cannot answer, so the heuristics do.")
    assert "Train a new one" in problem
    assert client.get(f"/models/{other}/preview").json()["champion_problem"] == problem
    with pytest.raises(InvalidInput, match="Train a new one"):
        preview_version(labelled.user_id, champion, days=1)
    before = best_of(labelled, ids)
    done = CliRunner().invoke(app, ["models", "promote", str(other), "--user", "somebody"])
    assert done.exit_code == 0, done.output
    assert problem in done.stderr
    after = best_of(labelled, ids)
    assert said_of(found) == {
        txn_id: (*before[txn_id], *after[txn_id]) for txn_id in ids if before[txn_id][0] != after[txn_id][0]
    }


@pytest.mark.parametrize("is_registered", [False, True])
def test_a_champion_whose_file_is_broken_gives_way_to_the_heuristics(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection, *, is_registered: bool
) -> None:
    champion, other = rivals
    if is_registered:
        rewrite(admin_connection, champion, {}, without="wording.idf")
    else:
        find = "SELECT artefact_name FROM model_versions WHERE version = %s"
        ((name,),) = admin_connection.execute(find, [champion]).fetchall()
        (artefact_root() / name).write_bytes(b"no model")
    found = preview_version(labelled.user_id, other, days=1)
    assert found.champion is None
    assert f"`lm models preview {champion}`" in (found.champion_problem or "")
    # Whoever asks through the API need not know where files are.
    assert str(artefact_root()) not in (found.champion_problem or "")
    with pytest.raises(ArtefactRefused, match=re.escape(str(artefact_root()))):
        preview_version(labelled.user_id, champion, days=1)


def add_abroad(ledger: Ledger, *rows: str) -> None:
    """Ingest rows of date, description, amount and currency."""
    path = ledger.folder / "abroad.csv"
    path.write_text("date,description,amount,currency,account\n" + "".join(f"{row},card\n" for row in rows))
    with session_for_user(ledger.user_id) as session:
        assert ingest_statement(session, ledger.user_id, path).inserted == len(rows)


def test_money_of_two_currencies_is_never_added_up(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection, client: TestClient
) -> None:
    _, other = rivals
    admin_connection.execute("DELETE FROM users WHERE id <> %s", [labelled.user_id])
    paid = [("ALDI MARKET", -3, "EUR"), ("ALDI MARKET YORK", 4, "GBP"), ("ALDI MARKET LEEDS", -5, "EUR")]
    add_abroad(labelled, *[f"2025-02-01,{shop},{amount}.25,{currency}" for shop, amount, currency in paid])
    found = preview_version(labelled.user_id, other, days=1)
    in_all = (Sum("EUR", Decimal("8.50")), Sum("GBP", Decimal("4.25")))
    assert found.sums == in_all
    (merchant,) = found.merchants
    assert (merchant.changed, merchant.sums) == (3, in_all)
    shown = run("models", "preview", str(other), "--days", "1", "--user", "somebody")
    assert "They are about 8.50 EUR and 4.25 GBP." in shown
    assert "12.75" not in shown
    answer = client.get(f"/models/{other}/preview", params={"days": 1}).json()
    assert answer["sums"] == [{"currency": "EUR", "amount": "8.50"}, {"currency": "GBP", "amount": "4.25"}]
    assert [each["currency"] for each in answer["merchants"][0]["suggestions"]] == ["EUR", "GBP", "EUR"]


def test_merchants_come_by_the_money_of_the_currency_that_most_changes_are_in(
    labelled: Ledger, rivals: tuple[int, int]
) -> None:
    _, other = rivals
    shops = ("ALDI MARKET", "ALDI MARKET", "ALDI 7 MARKET BAR", "ALDI 2 SUSHI MARKET")
    paid = zip(shops, (-1, -2, -9, -9000), ("EUR", "EUR", "EUR", "JPY"), strict=True)
    add_abroad(labelled, *[f"2025-02-01,{shop},{amount}.25,{currency}" for shop, amount, currency in paid])
    merchants = preview_version(labelled.user_id, other, days=1).merchants
    money = [{each.currency: each.amount for each in merchant.sums} for merchant in merchants]
    assert money == [{"EUR": Decimal("9.25")}, {"EUR": Decimal("3.50")}, {"JPY": Decimal("9000.25")}]


def test_an_answer_of_the_api_lists_so_many_changes_and_says_how_many_there_are(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection, client: TestClient
) -> None:
    _, other = rivals
    admin_connection.execute("DELETE FROM users WHERE id <> %s", [labelled.user_id])
    labelled.add(*[f"2025-02-01,ALDI 3 MARKET,-{number}.25,card," for number in range(1, 103)])
    labelled.add("2025-02-01,ALDI 7 MARKET BAR,-1.00,card,")

    def ask(**asked: int) -> dict[str, Any]:
        answer = client.get(f"/models/{other}/preview", params={"days": 1} | asked)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        found["listed"] = [len(merchant["suggestions"]) for merchant in found["merchants"]]
        return found

    assert (ask()["changed"], ask()["listed"], ask()["merchants"][0]["changed"]) == (103, [100], 102)
    assert ask(limit=2)["listed"] == [2]
    assert ask(limit=2)["sums"] == ask()["sums"]
    assert ask(limit=103)["listed"] == ask(limit=1000)["listed"] == [102, 1]
    for limit in (0, 1001):
        assert client.get(f"/models/{other}/preview", params={"limit": limit}).status_code == 422
    everything = json.loads(run("models", "preview", str(other), "--days", "1", "--json", "--user", "somebody"))
    assert sum(len(merchant["suggestions"]) for merchant in everything["merchants"]) == 103


def test_what_a_promotion_advises_can_be_done(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    _, other = rivals
    admin_connection.execute("DELETE FROM users WHERE id <> %s", [labelled.user_id])
    labelled.add(*[f"2025-02-01,ALDI {number} MARKET,-{number}.25,card," for number in range(1, 9)])
    advice = re.search(r"And 3 more: `lm (.*?)` shows", run("models", "promote", str(other), "--user", "somebody"))
    assert advice is not None
    assert run(*shlex.split(advice[1]))


def test_a_change_is_held_against_the_label_that_the_person_gave(labelled: Ledger, rivals: tuple[int, int]) -> None:
    champion, other = rivals
    (new,) = labelled.add("2025-02-01,ALDI 3 MARKET,-3.25,card,Groceries")
    forth = preview_version(labelled.user_id, other, days=1)
    promote(labelled, other)
    back = preview_version(labelled.user_id, champion, days=1)
    verdicts = [changes_of(found)[new].verdict for found in (forth, back)]
    assert verdicts in (["right → wrong", "wrong → right"], ["wrong → right", "right → wrong"])
    assert (forth.right_to_wrong, forth.wrong_to_right) == (back.wrong_to_right, back.right_to_wrong)
    assert (forth.right_to_nothing, forth.nothing_to_right) == (back.nothing_to_right, back.right_to_nothing)


def test_what_would_be_suggested_no_longer_is_told_from_what_would_be_wrong(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    _, other = rivals
    labelled.add("2025-02-01,ALDI 3 MARKET,-3.25,card,Groceries")
    sure = preview_version(labelled.user_id, other, days=1)
    (change,) = changes_of(sure).values()
    least = min(change.before_confidence or 0, change.after_confidence or 0)
    most = max(change.before_confidence or 0, change.after_confidence or 0)
    assert least < most
    admin_connection.execute("UPDATE users SET min_confidence = %s", [(least + most) / 2])
    found = preview_version(labelled.user_id, other, days=1)
    (change,) = changes_of(found).values()
    assert (change.before is None) != (change.after is None)
    assert found.right_to_nothing == (change.before == "Groceries")
    assert found.nothing_to_right == (change.after == "Groceries")
    assert (found.right_to_wrong, found.wrong_to_right) == (found.right_to_nothing, found.nothing_to_right)


def test_what_a_rule_decides_stays_and_a_version_changes_nothing_beside_itself(
    labelled: Ledger, rivals: tuple[int, int]
) -> None:
    champion, other = rivals
    labelled.add("2025-02-01,ALDI 3 MARKET,-3.25,card,")
    assert preview_version(labelled.user_id, champion, days=90).changed == 0
    write_rule(labelled, "nowhere", "Household")
    found = preview_version(labelled.user_id, other, days=1)
    assert (found.transactions, found.by_rule, found.changed) == (1, 0, 1)
    write_rule(labelled, "aldi", "Household")
    found = preview_version(labelled.user_id, other, days=1)
    assert (found.transactions, found.by_rule, found.changed) == (1, 1, 0)


def test_without_a_champion_the_heuristics_are_compared_with(
    labelled: Ledger, train_version: Callable[[Ledger], int]
) -> None:
    version = train_version(labelled)
    labelled.add("2025-02-01,ALDI 0041 LEEDS,-3.25,card,")
    found = preview_version(labelled.user_id, version, days=1)
    assert (found.champion, found.transactions, found.changed) == (None, 1, 0)


def test_a_version_that_is_not_there_or_broken_is_refused(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection
) -> None:
    _, other = rivals
    with pytest.raises(NotFound):
        preview_version(labelled.user_id, 99_999, days=90)
    find = "SELECT artefact_name FROM model_versions WHERE version = %s"
    (name,) = admin_connection.execute(find, [other]).fetchone() or ("",)
    (artefact_root() / name).write_bytes(b"no model")
    with pytest.raises(ArtefactRefused):
        preview_version(labelled.user_id, other, days=90)


def test_the_command_the_api_and_a_promotion_show_the_same(
    labelled: Ledger, rivals: tuple[int, int], admin_connection: psycopg.Connection, client: TestClient
) -> None:
    _, other = rivals
    labelled.add("2025-02-01,ALDI 3 MARKET,-3.25,card,")
    admin_connection.execute("DELETE FROM users WHERE id <> %s", [labelled.user_id])
    answer = client.get(f"/models/{other}/preview", params={"days": 1})
    assert answer.status_code == 200, answer.text
    shown = run("models", "preview", str(other), "--days", "1", "--json", "--user", "somebody")
    assert json.loads(shown) == json.loads(answer.text) | {"merchants": json.loads(shown)["merchants"]}
    listed = client.get("/models").json()
    assert [(row["version"], row["role"]) for row in listed] == [(other, None), (rivals[0], "champion")]
    assert "would suggest something else" in run("models", "preview", str(other), "--user", "somebody")
    promoted = run("models", "promote", str(other), "--user", "somebody")
    assert promoted.index("would suggest something else") < promoted.index("is the champion now")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return str(done.stdout)
