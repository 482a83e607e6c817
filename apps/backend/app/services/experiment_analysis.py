"""What an experiment says so far, in a form that may be looked at at any time.

Units are what was randomised, so outcomes are summed by unit. A treatment is compared with the control over the last
period in which both had units: across the steps of a ramp, or the change of a model, a drift would look like a
difference of the arms. Every period begins the comparison anew, so each is given a part of the alpha that the whole
experiment has, and all parts together are no more than that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from app.ml.count_evidence import sample_ratio_evidence
from app.ml.sequential import ALPHA, compare_arms, share_sequence, tell_comparison
from app.services import deployments
from app.services.experiment_assignment import LEAST_SHARE, versions_due
from app.services.experiment_guardrails import broken_guardrails, next_step
from app.services.experiment_outcomes import read_outcomes
from app.services.experiment_periods import NO_OUTCOMES, count_assignments, periods_of, shares_by_change

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from app.ml.sequential import Comparison, ShareSequence, UnitOutcomes
    from app.services.experiment_guardrails import NextStep
    from app.services.experiment_outcomes import Outcome, UnitSums
    from app.services.experiment_periods import Period
    from app.services.experiments import Experiment

# A canary that fails outright is to be stopped within some hundred answers.
PLANNED_ANSWERS: Final = 500


@dataclass(frozen=True)
class LastStep:
    """A treatment after the last step of its ramp, where the control has no share to compare it with.

    The two are of different times, so what changed meanwhile for everybody looks like a difference of theirs.

    Attributes:
        since: When the treatment's first suggestion of it was made.
        versions: Those that were due.
        acceptance: Of the treatment, since then; of what was answered, for what was asked lately is not answered yet.
        control: The same of the control in the last period in which it had a share.
    """

    since: dt.datetime
    versions: Mapping[str, int | None]
    acceptance: ShareSequence
    control: ShareSequence


@dataclass(frozen=True)
class ArmResult:
    """What an arm did in the last period in which it and the control had units, and a treatment beside the control.

    Where there is no such period yet, the last one in which the arm had units.

    Attributes:
        change: The change that was in force then; None before the first suggestion.
        since: When the first suggestion of the period was made.
        until: When the last one was, so far.
        versions: Those that were due then, by arm that asks a model.
        units: Units that were asked about.
        transactions: Transactions that were, each once.
        acceptance: Share of all of them that were accepted.
        answered: Share of those that somebody answered or labelled by hand that were accepted. Which these are may be
            the arm's doing, so it decides nothing between arms.
        precision: Share of first candidates that are the label of now, where a person said so later and otherwise than
            by an accept.
        coverage: Share of transactions that something was offered for.
        fallbacks: Of what a model was to answer, the share that the heuristics did; of the last period in which the
            arm had units at all.
        fallback_versions: Those that were due then.
        fallback_hours: Hours of the clock in which there were any.
        acceptance_difference: Treatment less control; None for the control, as is all that follows.
        fallback_difference: The same, of the treatment's last period and the control's last one that was beside it.
        sentence: What the difference of acceptance is, for a person.
        control_answered: What answered is of the control in the period of the differences.
        answered_share: Share of the transactions of both that somebody answered or labelled by hand.
        last_step: What was seen since the control has no share; None while it has one.
    """

    arm: str
    change: int | None
    since: dt.datetime | None
    until: dt.datetime | None
    versions: Mapping[str, int | None]
    units: int
    transactions: int
    acceptance: ShareSequence
    answered: ShareSequence
    precision: ShareSequence
    coverage: ShareSequence
    fallbacks: ShareSequence
    fallback_versions: Mapping[str, int | None]
    fallback_hours: int
    acceptance_difference: Comparison | None = None
    precision_difference: Comparison | None = None
    coverage_difference: Comparison | None = None
    fallback_difference: Comparison | None = None
    sentence: str | None = None
    control_answered: ShareSequence | None = None
    answered_share: float = 0.0
    last_step: LastStep | None = None


@dataclass(frozen=True)
class ExperimentResult:
    """What an experiment says so far.

    Attributes:
        since: Since when the shares are what they are.
        sample_ratio_e_value: How much the numbers of units speak against the shares; above 1,000 they are suspect.
        is_suspect: Whether they are: then nothing else is to be believed.
        broken: What guardrails say, by the arm that is to be stopped.
        next_step: The step of the ramp that comes next, or the promotion after it, if any does by itself.
    """

    experiment: str
    since: dt.datetime | None
    arms: tuple[ArmResult, ...]
    sample_ratio_e_value: float
    is_suspect: bool
    broken: dict[str, str]
    next_step: NextStep | None


def period_alpha(number: int, treatments: int) -> float:
    """Return how often one treatment's comparison may be wrong in one period.

    ALPHA / (k (k + 1)) of all periods k adds up to ALPHA, however many there come to be, and treatments share it: a
    union bound (Bonferroni), as where alpha is spent on one test after the other (Foster and Stine 2008).

    Args:
        number: Which of the periods in which there is anything to compare it is, from 1.
        treatments: How many treatments the experiment has.
    """
    return ALPHA / (number * (number + 1) * treatments)


def analyse_experiment(session: Session, experiment: Experiment) -> ExperimentResult:
    """Compare the arms of an experiment.

    Args:
        session: Of the role lm_jobs, or of a request for what the user's own suggestions say.
        experiment: Started or not.
    """
    roles = asdict(deployments.current(session, experiment.category_set))
    return conclude(experiment, read_outcomes(session, experiment), versions_due(experiment.arms, roles))


def conclude(experiment: Experiment, sums: Sequence[UnitSums], due: Mapping[str, int | None]) -> ExperimentResult:
    """Compare the arms of an experiment by what became of its units.

    Args:
        experiment: Started or not.
        sums: Of its units, in the order of time.
        due: The versions that its arms are answered by now.
    """
    periods, shares = periods_of(sums), shares_by_change(experiment)
    control, *treatments = (arm.name for arm in experiment.arms)
    results = [_treatment(name, control, periods, shares, len(treatments)) for name in treatments]
    with_control = [period for period in periods if period.had(control)]
    beside = [period for period in with_control if any(period.had(name) for name in treatments)]
    results.insert(0, _described(control, _last(beside or with_control), _last(with_control), ALPHA))
    evidence = sample_ratio_evidence(count_assignments(experiment, sums))
    return ExperimentResult(
        experiment=experiment.name,
        since=next((change.created_at for change in reversed(experiment.changes) if change.id in shares), None),
        arms=tuple(results),
        sample_ratio_e_value=evidence.e_value,
        is_suspect=evidence.is_suspect,
        broken=broken_guardrails(experiment, results, due),
        next_step=next_step(experiment, results, due),
    )


def _treatment(
    name: str, control: str, periods: Sequence[Period], shares: Mapping[int, tuple[float, ...]], treatments: int
) -> ArmResult:
    """Describe a treatment beside the control in the last period in which both had units, else in its own last one."""
    mine = [period for period in periods if period.had(name)]
    latest, period = _last(mine), _last([each for each in mine if each.had(control)] or mine)
    # In the order in which there was anything to judge: what comes later takes nothing from what came before.
    begun = sorted(each.since_of(name) for each in mine)

    def alpha_of(each: Period | None) -> float:
        return period_alpha(1 + begun.index(each.since_of(name)) if each else 1, treatments)

    def compare(outcome: Outcome, of: Period | None = period) -> Comparison:
        return compare_arms(
            _outcomes(of, name, outcome),
            _outcomes(period, control, outcome),
            alpha=alpha_of(of),
            planned_answers=PLANNED_ANSWERS,
        )

    accepted = compare("acceptance")
    described = _described(name, period, latest, alpha_of(latest))
    control_answered = share_sequence(_outcomes(period, control, "answered"))
    asked = max(accepted.treatment_answers + accepted.control_answers, 1)
    last_step = None
    if latest and period and period.had(control) and shares[latest.change][0] <= LEAST_SHARE:
        last_step = LastStep(
            since=latest.since,
            versions=latest.versions,
            acceptance=share_sequence(latest.outcomes(name, "answered"), alpha=alpha_of(latest)),
            control=share_sequence(period.outcomes(control, "answered"), alpha=alpha_of(latest)),
        )
    return replace(
        described,
        acceptance_difference=accepted,
        precision_difference=compare("precision"),
        coverage_difference=compare("coverage"),
        fallback_difference=compare("fallbacks", latest),
        sentence=tell_comparison(name, "accepts", accepted),
        control_answered=control_answered,
        answered_share=(described.answered.answers + control_answered.answers) / asked,
        last_step=last_step,
    )


def _described(name: str, period: Period | None, latest: Period | None, alpha: float) -> ArmResult:
    """Describe what an arm did in a period, and its fallbacks in another with an alpha of theirs."""
    units = period.units.get(name, ()) if period else ()
    units_of_fallbacks = latest.units.get(name, ()) if latest else ()

    def share(outcome: Outcome) -> ShareSequence:
        return share_sequence(_outcomes(period, name, outcome))

    return ArmResult(
        arm=name,
        change=period.change if period else None,
        since=period.since if period else None,
        until=period.until if period else None,
        versions=period.versions if period else {},
        units=len(units),
        transactions=sum(each.transactions for each in units),
        acceptance=share("acceptance"),
        answered=share("answered"),
        precision=share("precision"),
        coverage=share("coverage"),
        fallbacks=share_sequence(_outcomes(latest, name, "fallbacks"), alpha=alpha),
        fallback_versions=latest.versions if latest else {},
        fallback_hours=len(frozenset[int]().union(*(each.fallback_hours for each in units_of_fallbacks))),
    )


def _outcomes(period: Period | None, arm: str, outcome: Outcome) -> UnitOutcomes:
    return period.outcomes(arm, outcome) if period else NO_OUTCOMES


def _last(periods: Sequence[Period]) -> Period | None:
    return periods[-1] if periods else None
