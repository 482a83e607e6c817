"""What the policy makes of evidence about a challenger, and how often looking every few answers misleads it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from app.config import PromotionPolicy
from app.ml.sequential import ALPHA
from app.services.challenger_evidence import MANY_USERS, PairedAnswer, PairedEvidence, weigh_answers
from app.services.challenger_policy import Decision, Timings, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

POLICY = PromotionPolicy(least_answers=100)
QUICK = Timings(100, 0, 0.4)

RUNS = 100
ANSWERS = 600
LOOK_AFTER = 10
CATEGORIES = [f"category {number}" for number in range(10)]


def evidence(answers: Iterable[PairedAnswer], known_categories: int = len(CATEGORIES)) -> PairedEvidence:
    return weigh_answers(list(answers), known_categories=known_categories, category_answers=POLICY.category_answers)


def some(
    count: int, difference: int, truth: str = "Fuel", *, independent: bool = True, merchant: str | None = None
) -> Iterator[PairedAnswer]:
    """Make answers of a merchant each: the challenger alone has them right (1), the champion alone (-1), or both."""
    champion, challenger = (None if difference == 1 else truth), (None if difference == -1 else truth)
    for number in range(count):
        unit = (1, merchant or f"{truth} {difference} {independent} {number}")
        yield PairedAnswer(unit, truth, champion, challenger, independent)


def of(*answers: Iterable[PairedAnswer]) -> PairedEvidence:
    return evidence(each for some_answers in answers for each in some_answers)


@pytest.mark.parametrize(
    ("found", "timings", "decision", "because"),
    [
        (of(some(60, 1), some(340, 0)), QUICK, "promote", "enough to decide: yes"),
        (of(some(60, 1), some(39, 0)), QUICK, "wait", "100 answers are the fewest"),
        (of(some(6, 1), some(5, -1), some(390, 0)), QUICK, "wait", "enough to decide: no"),
        (of(some(60, -1), some(340, 0)), QUICK, "refuse", "more than an accept says"),
        # What was accepted is what the champion said: enough for a promotion against it, not for a refusal.
        (of(some(60, 1, independent=False), some(340, 0, independent=False)), QUICK, "promote", "yes"),
        (of(some(60, -1, independent=False), some(340, 0, independent=False)), QUICK, "wait", "fewer"),
        # A category that is proven worse, one that only looks so, one with too few answers, one that is hardly worse.
        (of(some(200, 1), some(200, 0), some(60, -1, "Rent")), QUICK, "refuse", "worse than may be on Rent (-100.0"),
        (of(some(200, 1), some(200, 0), some(5, -1, "Rent"), some(15, 0, "Rent")), QUICK, "wait", "So far"),
        (of(some(200, 1), some(60, -1, "Rent", merchant="one")), QUICK, "wait", "Rent (-100.0 points)"),
        (of(some(200, 1), some(60, -1, "Rent", independent=False)), QUICK, "wait", "Rent (-100.0 points)"),
        (of(some(200, 1), some(19, -1, "Rent")), QUICK, "promote", "yes"),
        (of(some(200, 1), some(1, -1, "Rent"), some(19, 0, "Rent")), QUICK, "promote", "yes"),
        # Time: proven too much, too much as it looks, and not measured often enough.
        (of(some(60, 1), some(340, 0)), Timings(60, 60, 50.0), "refuse", "50.0 ms"),
        (of(some(60, 1), some(340, 0)), Timings(30, 3, 6.0), "wait", "6.0 ms"),
        (of(some(60, 1), some(340, 0)), Timings(29, 29, 50.0), "wait", "timed 29 times"),
        (of(some(60, 1), some(340, 0)), Timings(0, 0, None), "wait", "timed 0 times"),
    ],
)
def test_the_policy_wants_enough_answers_a_clear_win_no_category_worse_and_speed(
    found: PairedEvidence, timings: Timings, decision: Decision, because: str
) -> None:
    decided, reasons = decide(POLICY, found, timings)
    assert (decided, because in " ".join(reasons)) == (decision, True), reasons


def test_categories_share_one_alpha_whether_or_not_they_have_answers_yet() -> None:
    found = of(some(30, 0, "Fuel"), some(30, 0, "Rent"))
    assert [each.independent.alpha for each in found.categories] == [pytest.approx(ALPHA / len(CATEGORIES))] * 2
    more = evidence((each for name in "ABC" for each in some(30, 0, name)), known_categories=1)
    assert [each.independent.alpha for each in more.categories] == [pytest.approx(ALPHA / 3)] * 3


def test_a_unit_counts_once_in_the_disagreements_by_its_first() -> None:
    found = of(
        some(1, 0, merchant="a"), some(1, -1, merchant="a"), some(7, 1, merchant="a"), some(9, 1), some(3, 0),
    ).disagreements  # fmt: skip
    assert (found.wins, found.losses) == (9, 1)
    assert found.e_value == pytest.approx(3.963, abs=0.001)


def test_from_twenty_users_on_they_are_the_units() -> None:
    def of_users(count: int) -> PairedEvidence:
        return evidence(
            PairedAnswer((user, f"merchant {number}"), "Fuel", "Fuel", "Fuel", is_independent=True)
            for user in range(count)
            for number in range(30)
        )

    few, many = of_users(MANY_USERS - 1), of_users(MANY_USERS)
    assert (few.comparison.treatment_units, few.unit) == (19 * 30, "merchants of users")
    assert (many.comparison.treatment_units, many.unit) == (20, "users")
    assert many.categories[0].independent.treatment_units == 20


# --- looked at every ten answers -----------------------------------------------------------------------------------


def simulated(generator: np.random.Generator, gain: float) -> list[PairedAnswer]:
    """Draw answers of merchants; in one of five one of the two alone is right, throughout."""
    answers: list[PairedAnswer] = []
    while len(answers) < ANSWERS:
        difference = int(generator.choice([1, -1, 0], p=[0.1 + gain / 2, 0.1 - gain / 2, 0.8]))
        truth = str(generator.choice(CATEGORIES))
        merchant = f"merchant {len(answers)}"
        is_independent = bool(generator.random() < 0.7)
        many = int(generator.geometric(1 / 3))
        answers += some(many, difference, truth, independent=is_independent, merchant=merchant)
    return answers[:ANSWERS]


def decisions(gain: float, seed: int, judge: Callable[[PairedEvidence], Decision]) -> Counter[Decision]:
    """Count how many of the simulated challengers were promoted, refused or neither."""
    generator, counted = np.random.default_rng(seed), Counter[Decision]()
    for _ in range(RUNS):
        answers = simulated(generator, gain)
        # All that comes after a decision is of no account.
        looks = (judge(evidence(answers[:seen])) for seen in range(POLICY.least_answers, ANSWERS + 1, LOOK_AFTER))
        counted[next((decided for decided in looks if decided != "wait"), "wait")] += 1
    return counted


def by_policy(found: PairedEvidence) -> Decision:
    return decide(POLICY, found, QUICK)[0]


def by_estimates(found: PairedEvidence) -> Decision:
    """Refuse what looks worse at the moment in any category."""
    worse = any((each.comparison.difference or 0) < -POLICY.category_margin for each in found.categories)
    return "refuse" if worse else by_policy(found)


def test_a_challenger_that_is_as_good_is_promoted_or_refused_in_at_most_5_percent() -> None:
    counted = decisions(0.0, 1, by_policy)
    assert counted["promote"] + counted["refuse"] <= 0.05 * RUNS


def test_refusing_what_looks_worse_in_a_category_refuses_far_more() -> None:
    assert decisions(0.0, 1, by_estimates)["refuse"] > 0.5 * RUNS


def test_a_challenger_that_is_15_points_better_is_mostly_promoted_and_hardly_ever_refused() -> None:
    counted = decisions(0.15, 2, by_policy)
    assert counted["refuse"] <= 0.05 * RUNS
    assert counted["promote"] >= 0.5 * RUNS


def test_a_challenger_that_is_15_points_worse_is_mostly_refused_and_never_promoted() -> None:
    counted = decisions(-0.15, 3, by_policy)
    assert counted["refuse"] >= 0.5 * RUNS
    assert counted["promote"] == 0


# --- answers that depend on who is right -----------------------------------------------------------------------------


def chosen(generator: np.random.Generator, win: float, lose: float, r_right: float) -> list[PairedAnswer]:
    """Draw suggestions; every mistake of the champion is corrected, of what it has right a share is accepted.

    Both are wrong, each in its own way, on one suggestion of twenty.
    """
    kinds = generator.choice(4, size=3 * ANSWERS, p=[win, lose, 0.05, 0.95 - win - lose])
    answered = (kinds == 0) | (kinds == 2) | (generator.random(kinds.size) < r_right)
    names = generator.choice(CATEGORIES, size=kinds.size)
    candidates = {0: (0, 1), 1: (1, 0), 2: (0, 0), 3: (1, 1)}
    found = []
    for number, (kind, name, is_answered) in enumerate(zip(kinds.tolist(), names.tolist(), answered, strict=True)):
        first, second = candidates[kind]
        champion, challenger = (name if first else "another"), (name if second else "a third")
        unit = (1, f"merchant {number}")
        found.append(PairedAnswer(unit, name if is_answered else None, champion, challenger, not first))
    return found


def promotions(win: float, lose: float, r_right: float, runs: int = 40) -> int:
    """Count the challengers that are promoted at any look, every 150 suggestions."""
    generator = np.random.default_rng(4)
    promoted = 0
    for _ in range(runs):
        found = chosen(generator, win, lose, r_right)
        looks = (by_policy(evidence(found[:seen])) for seen in range(150, len(found) + 1, 150))
        promoted += next((decided for decided in looks if decided != "wait"), "wait") == "promote"
    return promoted


@pytest.mark.parametrize(
    ("win", "lose", "r_right"), [(0.05, 0.05, 0.3), (0.05, 0.05, 0.6), (0.04, 0.07, 0.3), (0.05, 0.15, 0.2)]
)
def test_no_better_challenger_is_promoted_because_people_correct_more_than_they_confirm(
    win: float, lose: float, r_right: float
) -> None:
    assert promotions(win, lose, r_right) <= 0.05 * 40


@pytest.mark.parametrize("r_right", [0.0, 0.3, 1.0])
def test_a_challenger_that_is_15_points_better_is_promoted_also_where_people_mostly_correct(r_right: float) -> None:
    assert promotions(0.2, 0.05, r_right) >= 0.9 * 40


def test_effects_that_differ_by_user_and_are_none_on_average_decide_nothing() -> None:
    generator, decided, runs = np.random.default_rng(5), 0, 40
    for _ in range(runs):
        tilts = generator.choice([0.8, 0.2], size=(24, 1))
        won = generator.random((24, 100)) < tilts
        found = [
            PairedAnswer((user, str(number)), "Fuel", *(("a", "Fuel") if won[user, number] else ("Fuel", "a")), False)
            for number in range(100)
            for user in range(24)
        ]
        decided += any(by_policy(evidence(found[:seen])) == "promote" for seen in range(240, 2401, 240))
    assert decided <= 0.05 * runs
