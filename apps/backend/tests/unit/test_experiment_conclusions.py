"""What canaries come to that are as good, or worse: simulated with a fixed seed, and decided as the worker does."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from app.services.experiment_analysis import conclude
from app.services.experiment_assignment import Arm
from app.services.experiment_outcomes import UnitSums
from app.services.experiment_plans import CANARY_RAMP, Guardrails
from app.services.experiments import Action, Change, Experiment

if TYPE_CHECKING:
    from app.services.experiment_analysis import ExperimentResult
    from app.services.experiment_assignment import Engine

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ARMS = (Arm("champion", "champion", None, 0.0), Arm("canary", "version", 2, 1.0))
DUE = {"champion": 1, "canary": 2}
# Of every unit, ten transactions whose acceptance is known.
OF_A_UNIT = 10


def changed(experiment: Experiment, action: Action, ramp: float) -> Experiment:
    number = len(experiment.changes) + 1
    at = BEGIN + number * dt.timedelta(days=1)
    return replace(experiment, changes=(*experiment.changes, Change(number, action, ramp, None, "x", "x", at)))


def canary() -> Experiment:
    planned = Experiment(1, None, "canary", "user_merchant", ARMS, CANARY_RAMP, Guardrails(), "x", BEGIN, ())
    return changed(planned, "start", CANARY_RAMP[0])


def unit(
    experiment: Experiment,
    name: str,
    arm: str,
    *,
    transactions: int,
    accepted: int,
    answered: int | None = None,
    fallbacks: tuple[int, ...] = (),
) -> UnitSums:
    """Say what became of a unit; one fallback for each hour of the clock that is given, and all answered if None."""
    at = experiment.changes[-1].created_at
    answered = transactions if answered is None else answered
    return UnitSums(
        change=experiment.changes[-1].id,
        versions=DUE,
        unit=name,
        arm=arm,
        first_at=at,
        last_at=at,
        transactions=transactions,
        sums={
            "acceptance": (transactions, accepted),
            "precision": (0, 0),
            "coverage": (transactions, transactions),
            "fallbacks": (transactions, len(fallbacks)),
            "answered": (answered, accepted),
        },
        fallback_hours=frozenset(fallbacks),
    )


def units(
    generator: np.random.Generator,
    experiment: Experiment,
    arm: str,
    count: int,
    accepts: float,
    fallbacks: tuple[int, ...] = (),
) -> list[UnitSums]:
    return [
        unit(
            experiment,
            str(generator.integers(2**62)),
            arm,
            transactions=OF_A_UNIT,
            accepted=int(accepted),
            fallbacks=fallbacks,
        )
        for accepted in generator.binomial(OF_A_UNIT, accepts, count)
    ]


@dataclass
class Market:
    """Merchants of users that come back, some far more often than others, each with an acceptance of its own.

    Attributes:
        activity: (units,), how probable it is that a transaction is a unit's.
        accepts: (units,), how probable it is that the champion's suggestion for one is accepted.
        points: (units,), where in [0, 1) each is assigned.
    """

    generator: np.random.Generator
    count: int

    def __post_init__(self) -> None:
        weights = self.generator.lognormal(0, 1.2, self.count)
        self.activity = weights / weights.sum()
        self.accepts = self.generator.beta(9, 1, self.count)
        self.points = self.generator.random(self.count)

    def run(
        self, experiment: Experiment, *, worse_by: float, looks: int, transactions: int, answers: float = 1.0
    ) -> tuple[str, str]:
        """Let a canary go on by itself at the shares of its ramp; say where it got to, and what it said last."""
        before, sentence = list[UnitSums](), ""
        many = np.zeros((3, self.count), dtype=np.int64)
        for _ in range(looks):
            is_canary = self.points < experiment.ramp_now
            asked = self.generator.multinomial(transactions, self.activity)
            answered = self.generator.binomial(asked, answers)
            many += (asked, answered, self.generator.binomial(answered, self.accepts * (1 - worse_by * is_canary)))
            now = [
                unit(
                    experiment,
                    str(number),
                    "canary" if is_canary[number] else "champion",
                    transactions=int(many[0, number]),
                    answered=int(many[1, number]),
                    accepted=int(many[2, number]),
                )
                for number in np.flatnonzero(many[0])
            ]
            result = conclude(experiment, before + now, DUE)
            if result.broken:
                return "stopped", ""
            step = result.next_step
            sentence = step.sentence if step else ""
            if step is not None and step.is_due:
                experiment, before = changed(experiment, "ramp", step.ramp), before + now
                many[:] = 0
                if experiment.ramp_now == 1:
                    break
        return f"{experiment.ramp_now:.0%}", sentence


@pytest.mark.parametrize(("worse_by", "answers", "seed"), [(0.1, 1.0, 1), (0.2, 0.3, 2), (0.9, 0.05, 3)])
def test_a_canary_that_is_clearly_worse_does_not_get_to_everybody_however_few_people_answer(
    worse_by: float, answers: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    ends = Counter(
        Market(generator, 2_000).run(
            changed(canary(), "ramp", 0.1), worse_by=worse_by, looks=12, transactions=5_000, answers=answers
        )[0]
        for _ in range(10)
    )
    assert ends["100%"] == 0, ends


def test_a_canary_that_is_as_good_gets_to_everybody_where_there_are_units_enough() -> None:
    generator = np.random.default_rng(3)
    ends = Counter(
        Market(generator, 10_000).run(canary(), worse_by=0, looks=40, transactions=5_000)[0] for _ in range(10)
    )
    assert ends["100%"] >= 9, ends


def test_a_ramp_that_stays_for_want_of_units_says_that_they_are_missing_and_what_goes_on() -> None:
    market = Market(np.random.default_rng(4), 1_000)
    end, sentence = market.run(canary(), worse_by=0, looks=6, transactions=10_000)
    assert end == "1%"
    in_canary = int((market.points < 0.01).sum())
    assert f"The smaller arm has {in_canary} units: units are missing" in sentence
    assert "`lm experiments ramp canary --to 10` goes on by hand" in sentence


def test_a_ramp_that_stays_for_what_a_step_could_cost_does_not_ask_for_units() -> None:
    generator = np.random.default_rng(5)
    experiment = changed(canary(), "ramp", 0.5)
    arms = {"champion": 0.9, "canary": 0.87}
    seen = [each for arm, share in arms.items() for each in units(generator, experiment, arm, 200, share)]
    step = conclude(experiment, seen, DUE).next_step
    assert step is not None
    assert "The smaller arm has 200 units." in step.sentence
    assert "missing" not in step.sentence


def test_nothing_goes_on_before_people_have_answered() -> None:
    experiment = changed(canary(), "ramp", 0.5)
    seen = [
        unit(experiment, f"{arm} {number}", arm, transactions=100, answered=0, accepted=0)
        for arm in DUE
        for number in range(500)
    ]
    step = conclude(experiment, seen, DUE).next_step
    assert step is not None
    assert not step.is_due
    assert "waits for 100 answers" in step.sentence


@pytest.mark.parametrize(("accepts", "is_stopped"), [(0.1, True), (0.85, False), (0.9, False)])
def test_limits_are_of_what_people_answer_where_that_is_little(accepts: float, *, is_stopped: bool) -> None:
    # Of every second unit, one of ten: all the rest is not accepted in either arm.
    experiment = changed(canary(), "ramp", 0.5)
    seen = [
        unit(
            experiment,
            f"{arm} {number}",
            arm,
            transactions=OF_A_UNIT,
            answered=number % 2,
            accepted=int(number % 2 and number % 100 < 100 * share),
        )
        for arm, share in {"champion": 0.9, "canary": accepts}.items()
        for number in range(20_000)
    ]
    result = conclude(experiment, seen, DUE)
    # Five of a hundred suggestions are answered, so whoever fails outright costs no more than that.
    assert (result.broken != {}) == is_stopped
    assert result.next_step is not None
    assert result.next_step.is_due == (accepts == 0.9), result.next_step.sentence


def at_the_last_step(
    fallbacks: tuple[int, ...] = (), *, beside: tuple[int, ...] = (), engine: Engine = "champion"
) -> ExperimentResult:
    """Conclude what is known of a canary that fell back at the last step, and whose control did before it."""
    generator = np.random.default_rng(6)
    experiment = replace(canary(), arms=(Arm("champion", engine, None, 0.0), ARMS[1]))
    experiment = changed(experiment, "ramp", 0.5)
    seen = units(generator, experiment, "canary", 50, 0.9)
    seen += units(generator, experiment, "champion", 50, 0.9, beside)
    experiment = changed(experiment, "ramp", 1.0)
    seen += units(generator, experiment, "canary", 50, 0.9)
    seen += units(generator, experiment, "canary", 50, 0.9, fallbacks)
    return conclude(experiment, seen, DUE)


def test_a_canary_that_the_heuristics_answer_for_is_stopped_at_the_last_step_too() -> None:
    assert at_the_last_step().broken == {}
    result = at_the_last_step(fallbacks=(1, 2, 3, 4, 5))
    assert "in the model's place" in result.broken["canary"]
    # What is compared is the step before; what fell back is of now.
    assert (result.arms[1].acceptance.answers, result.arms[1].fallbacks.answers) == (500, 1_000)


def test_fallbacks_of_a_moment_stop_nobody_and_of_three_hours_they_do() -> None:
    assert at_the_last_step(fallbacks=(7, 7, 7, 8, 8)).broken == {}
    assert at_the_last_step(fallbacks=(7, 7, 7, 8, 9)).broken.keys() == {"canary"}


def test_who_falls_back_as_often_as_the_control_is_not_stopped() -> None:
    hours = (1, 2, 3, 4, 5)
    result = at_the_last_step(fallbacks=hours, beside=hours)
    assert result.broken == {}
    assert result.arms[0].fallbacks.share == 0.5


def test_results_name_the_control_s_fallbacks_too() -> None:
    result = at_the_last_step(beside=(1, 2, 3))
    assert (result.arms[0].fallbacks.answers, result.arms[0].fallbacks.share) == (500, 0.3)


def test_beside_the_heuristics_fallbacks_are_judged_by_themselves() -> None:
    generator = np.random.default_rng(7)
    experiment = replace(canary(), arms=(Arm("champion", "rule", None, 0.5), replace(ARMS[1], share=0.5)))
    for fallbacks, broken in (((), set()), ((1, 2), set()), ((1, 2, 3), {"canary"})):
        rules = [
            replace(each, sums={**each.sums, "fallbacks": (0, 0)})
            for each in units(generator, experiment, "champion", 100, 0.9)
        ]
        seen = rules + units(generator, experiment, "canary", 100, 0.9, fallbacks)
        assert conclude(experiment, seen, DUE).broken.keys() == broken


def ended(generator: np.random.Generator, *, lately: float, answered: float = 1.0) -> ExperimentResult:
    """Conclude what is known of a canary that was as good beside the champion, and lately alone."""
    experiment = changed(canary(), "ramp", 0.5)
    seen = [each for arm in DUE for each in units(generator, experiment, arm, 1_000, 0.9)]
    experiment = changed(experiment, "ramp", 1.0)
    for number in range(200):
        many = int(generator.binomial(OF_A_UNIT, answered))
        accepted = int(generator.binomial(many, lately))
        seen.append(unit(experiment, f"{number}", "canary", transactions=10, accepted=accepted, answered=many))
    return conclude(experiment, seen, DUE)


def test_a_canary_whose_last_step_held_is_due_to_become_champion() -> None:
    step = ended(np.random.default_rng(8), lately=0.9).next_step
    assert step is not None
    assert (step.version, step.is_due) == (2, True)
    assert "Version 2 is due to become champion: its last step held for 2,000 answers" in step.sentence


def test_what_nobody_could_answer_yet_is_no_failure_of_the_last_step() -> None:
    result = ended(np.random.default_rng(9), lately=0.9, answered=0.1)
    assert result.broken == {}
    assert result.next_step is not None
    assert result.next_step.is_due
    result = ended(np.random.default_rng(9), lately=0.9, answered=0.01)
    assert result.broken == {}
    assert result.next_step is not None
    assert "becomes champion after 100 answers at the last step" in result.next_step.sentence


def test_a_canary_that_fails_at_the_last_step_is_stopped_and_not_promoted() -> None:
    assert "at the last step" in ended(np.random.default_rng(10), lately=0.5).broken["canary"]


def test_a_canary_that_somebody_took_to_everybody_without_evidence_becomes_champion_by_hand_alone() -> None:
    generator = np.random.default_rng(11)
    experiment = changed(canary(), "ramp", 0.5)
    seen = [each for arm in DUE for each in units(generator, experiment, arm, 12, 0.9)]
    experiment = changed(experiment, "ramp", 1.0)
    seen += units(generator, experiment, "canary", 200, 0.9)
    step = conclude(experiment, seen, DUE).next_step
    assert step is not None
    assert not step.is_due
    assert "by hand alone, with `lm models promote 2`" in step.sentence


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_only_who_takes_the_place_of_the_champion_becomes_champion(share: float) -> None:
    # Where the control has half of the units for good, or is no champion, the two are only compared.
    arms = (Arm("champion", "champion" if share else "rule", None, share), replace(ARMS[1], share=1 - share))
    experiment = changed(replace(canary(), arms=arms), "ramp", 0.5)
    generator = np.random.default_rng(12)
    seen = [each for arm in DUE for each in units(generator, experiment, arm, 1_000, 0.9)]
    experiment = changed(experiment, "ramp", 1.0)
    seen += units(generator, experiment, "canary", 200, 0.9)
    assert conclude(experiment, seen, DUE).next_step is None


@pytest.mark.parametrize("due", [{"champion": 1, "canary": 3}, {"champion": 2, "canary": 2}])
def test_what_other_versions_did_neither_stops_an_arm_nor_takes_a_step(due: dict[str, int]) -> None:
    generator = np.random.default_rng(5)
    experiment = changed(canary(), "ramp", 0.5)
    better, worse = (
        [
            *units(generator, experiment, "champion", 200, 0.8),
            *units(generator, experiment, "canary", 200, accepts),
        ]
        for accepts in (0.9, 0.4)
    )
    for seen, of_now in ((better, {}), (worse, {"canary"})):
        assert conclude(experiment, seen, DUE).broken.keys() == set(of_now)
        assert conclude(experiment, seen, due).broken == {}
    steps = [conclude(experiment, better, versions).next_step for versions in (DUE, due)]
    assert [step is not None and step.is_due for step in steps] == [True, False]
