"""What experiments conclude: how often they mislead however often they are looked at, and how soon they find an effect.

Every share is of RUNS simulated experiments with a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from app.ml.confidence_sequences import Bounds, UnitMoments, difference_bounds, mean_bounds, unit_moments
from app.ml.count_evidence import (
    AssignmentPeriod,
    disagreement_evidence,
    log_assignment_evidence,
    log_disagreement_evidence,
    sample_ratio_evidence,
)
from app.ml.sequential import (
    ALPHA,
    PLANNED_ANSWERS,
    PLANNED_ANSWERS_OF_SHARE,
    Comparison,
    UnitOutcomes,
    compare_arms,
    compare_on_same_answers,
    share_sequence,
    tell_comparison,
)
from app.services.experiment_analysis import PLANNED_ANSWERS as EXPERIMENT_PLANNED_ANSWERS
from app.services.experiment_analysis import period_alpha

RUNS = 1_000
ANSWERS = 10_000
LOOK_AFTER = 50

Whole = NDArray[np.int64]
Hits = NDArray[np.bool_]
Sizes = Callable[[np.random.Generator, tuple[int, int]], Whole]


def geometric(generator: np.random.Generator, shape: tuple[int, int]) -> Whole:
    return generator.geometric(1 / 5, shape)


def lognormal(generator: np.random.Generator, shape: tuple[int, int]) -> Whole:
    return np.ceil(generator.lognormal(1.0, 1.2, shape)).astype(np.int64)


def independent_answers(generator: np.random.Generator, share: float, answers: int, look_after: int) -> UnitMoments:
    """Of every run and look, where each answer is a unit."""
    successes = generator.binomial(look_after, share, (RUNS, answers // look_after)).cumsum(axis=1).astype(float)
    seen = np.broadcast_to(np.arange(look_after, answers + 1, look_after, dtype=float), successes.shape)
    return UnitMoments(seen, seen, successes, seen, successes, successes)


def cumulative(answers: Whole, totals: Whole, look_after: int) -> UnitMoments:
    """Of every run and look, where units come one after the other and are looked at after every few."""
    each = (answers > 0, answers, totals, answers * answers, totals * totals, answers * totals)
    return UnitMoments(*(moment.cumsum(axis=1)[:, look_after - 1 :: look_after].astype(float) for moment in each))


def clustered_answers(
    generator: np.random.Generator, sizes: Sizes, acceptance: tuple[float, float], units: int, look_after: int
) -> UnitMoments:
    """Of units that have an acceptance of their own, from a Beta distribution."""
    answers = sizes(generator, (RUNS, units))
    successes = generator.binomial(answers, generator.beta(*acceptance, answers.shape))
    return cumulative(answers, successes, look_after)


def returning_users(
    generator: np.random.Generator, users: int, acceptance: tuple[float, float], looks: int
) -> UnitMoments:
    """Of a few users, some busier than others, who all keep answering."""
    busy = generator.lognormal(0, 0.7, (RUNS, users))
    busy /= busy.sum(axis=1, keepdims=True)
    accepts = generator.beta(*acceptance, busy.shape)
    new = generator.poisson(LOOK_AFTER * busy[:, None], (RUNS, looks, users))
    return unit_moments(new.cumsum(axis=1), generator.binomial(new, accepts[:, None]).cumsum(axis=1))


def take_answers_for_units(moments: UnitMoments) -> UnitMoments:
    """Forget which answers are of one unit."""
    answers, successes = moments.answers, moments.totals
    return UnitMoments(answers, answers, successes, answers, successes, successes)


def winners(bounds: Bounds) -> Hits:
    """Tell for every run and look whether a difference is declared."""
    return (bounds.lower > 0) | (bounds.upper < 0)


def compare(
    treatment: UnitMoments, control: UnitMoments, planned_answers: float = PLANNED_ANSWERS, alpha: float = ALPHA
) -> Hits:
    return winners(difference_bounds(treatment, control, alpha=alpha, planned_answers=planned_answers))


# As the sequence is by itself, and as experiments use it: in the first period of one treatment, and in the fourth of
# two, where a canary is at its end.
CONFIGURATIONS = pytest.mark.parametrize(
    ("planned_answers", "alpha"),
    [
        (PLANNED_ANSWERS, ALPHA),
        (EXPERIMENT_PLANNED_ANSWERS, period_alpha(1, 1)),
        (EXPERIMENT_PLANNED_ANSWERS, period_alpha(4, 2)),
    ],
)


def misses(moments: UnitMoments, share: float, planned_answers: float = PLANNED_ANSWERS_OF_SHARE) -> Hits:
    bounds = mean_bounds(moments, (0.0, 1.0), alpha=ALPHA, planned_answers=planned_answers)
    return (bounds.lower > share) | (bounds.upper < share)


def share_ever(hits: Hits) -> float:
    return float(hits.any(axis=1).mean())


def median_first(hits: Hits) -> float:
    return float(np.median(np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, np.inf)))


def outcomes(*units: tuple[int, int]) -> UnitOutcomes:
    """Make an arm of (answers, successes)."""
    answers, successes = np.array(units, dtype=np.int64).reshape(-1, 2).T
    return UnitOutcomes(answers, successes)


# Nothing to be found: a winner is declared in at most one run of twenty.


@CONFIGURATIONS
def test_equal_arms_that_are_looked_at_after_every_50_answers_declare_a_winner_in_at_most_5_percent(
    planned_answers: float, alpha: float
) -> None:
    generator = np.random.default_rng(1)
    first, second = (independent_answers(generator, 0.6, ANSWERS, LOOK_AFTER) for _ in range(2))
    assert share_ever(compare(first, second, planned_answers, alpha)) <= alpha


def test_equal_arms_declare_a_winner_in_at_most_5_percent_however_many_periods_there_are() -> None:
    generator = np.random.default_rng(20)
    undivided, divided = np.zeros(RUNS, dtype=bool), np.zeros(RUNS, dtype=bool)
    for number in range(1, 21):
        first, second = (independent_answers(generator, 0.6, 1_000, LOOK_AFTER) for _ in range(2))
        undivided |= compare(first, second, EXPERIMENT_PLANNED_ANSWERS).any(axis=1)
        alpha = period_alpha(number, 1)
        divided |= compare(first, second, EXPERIMENT_PLANNED_ANSWERS, alpha).any(axis=1)
    assert divided.mean() <= 0.05
    assert undivided.mean() > 0.1


@pytest.mark.parametrize("treatments", [1, 3])
def test_what_all_periods_of_all_treatments_may_be_wrong_in_is_alpha(treatments: int) -> None:
    spent = [treatments * period_alpha(number, treatments) for number in range(1, 10_001)]
    assert 0.999 * ALPHA < sum(spent) <= ALPHA


def test_a_test_for_one_look_that_is_looked_at_as_often_declares_far_more() -> None:
    generator = np.random.default_rng(1)
    first, second = (independent_answers(generator, 0.6, ANSWERS, LOOK_AFTER) for _ in range(2))
    difference = (first.totals - second.totals) / first.answers
    pooled = (first.totals + second.totals) / (2 * first.answers)
    z = np.abs(difference) / np.sqrt(2 * pooled * (1 - pooled) / first.answers)
    assert (z[:, -1] > stats.norm.isf(ALPHA / 2)).mean() < 0.07
    assert share_ever(z > stats.norm.isf(ALPHA / 2)) > 0.3


@pytest.mark.parametrize("acceptance", [(6.0, 4.0), (1.2, 0.8), (9.5, 0.5)])
@pytest.mark.parametrize("sizes", [geometric, lognormal])
def test_equal_arms_of_units_with_many_answers_declare_a_winner_in_at_most_5_percent(
    sizes: Sizes, acceptance: tuple[float, float]
) -> None:
    generator = np.random.default_rng(2)
    first, second = (clustered_answers(generator, sizes, acceptance, units=2_000, look_after=10) for _ in range(2))
    assert share_ever(compare(first, second)) <= 0.05


def test_taking_answers_for_units_declares_far_more() -> None:
    generator = np.random.default_rng(2)
    first, second = (clustered_answers(generator, lognormal, (6.0, 4.0), units=2_000, look_after=10) for _ in range(2))
    assert share_ever(compare(take_answers_for_units(first), take_answers_for_units(second))) > 0.3


@pytest.mark.parametrize("users", [5, 30, 100])
def test_users_who_keep_coming_back_declare_a_winner_in_at_most_5_percent(users: int) -> None:
    generator = np.random.default_rng(3)
    first, second = (returning_users(generator, users, (6.0, 4.0), looks=40) for _ in range(2))
    assert share_ever(compare(first, second, planned_answers=500)) <= 0.05
    assert share_ever(compare(take_answers_for_units(first), take_answers_for_units(second), 500)) > 0.1


@pytest.mark.parametrize("planned_answers", [300, PLANNED_ANSWERS])
@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_a_look_after_every_answer_from_the_first_one_on_misleads_in_at_most_5_percent(
    share: float, planned_answers: float
) -> None:
    generator = np.random.default_rng(4)
    first, second = (independent_answers(generator, share, 1_000, 1) for _ in range(2))
    larger = independent_answers(generator, share, 9_000, 9)
    assert share_ever(compare(first, second, planned_answers)) <= 0.05
    assert share_ever(compare(first, larger, planned_answers)) <= 0.05


@pytest.mark.parametrize("sizes", [geometric, lognormal])
def test_few_units_with_acceptance_near_1_mislead_in_at_most_5_percent(sizes: Sizes) -> None:
    generator = np.random.default_rng(5)
    first, second = (clustered_answers(generator, sizes, (9.5, 0.5), units=150, look_after=1) for _ in range(2))
    assert share_ever(compare(first, second, planned_answers=300)) <= 0.05


@pytest.mark.parametrize("planned_answers", [300, PLANNED_ANSWERS_OF_SHARE])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_a_share_leaves_its_sequence_in_at_most_5_percent(share: float, planned_answers: float) -> None:
    generator = np.random.default_rng(6)
    assert share_ever(misses(independent_answers(generator, share, 2_000, 1), share, planned_answers)) <= 0.05


@pytest.mark.parametrize("sizes", [geometric, lognormal])
def test_a_share_of_clustered_answers_leaves_its_sequence_in_at_most_5_percent(sizes: Sizes) -> None:
    generator = np.random.default_rng(7)
    # Whole merchants are right or wrong, nearly.
    units = clustered_answers(generator, sizes, (1.8, 0.2), units=600, look_after=1)
    assert share_ever(misses(units, 0.9)) <= 0.05
    assert share_ever(misses(take_answers_for_units(units), 0.9)) > 0.2


def paired(generator: np.random.Generator, gain: float, units: int) -> UnitMoments:
    """Of two systems that differ in a tenth of the merchants, each of which one of them has right throughout."""
    answers = geometric(generator, (RUNS, units))
    verdicts = generator.choice([1, -1, 0], answers.shape, p=[0.05 + gain / 2, 0.05 - gain / 2, 0.9])
    return cumulative(answers, verdicts * answers, 10)


def test_equally_good_systems_on_the_same_answers_declare_a_winner_in_at_most_5_percent() -> None:
    moments = paired(np.random.default_rng(8), 0.0, units=2_000)
    bounds = mean_bounds(moments, (-1.0, 1.0), alpha=ALPHA, planned_answers=PLANNED_ANSWERS)
    assert share_ever(winners(bounds)) <= 0.05


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_the_evidence_of_disagreements_misleads_in_at_most_5_percent(share: float) -> None:
    wins = (np.random.default_rng(9).random((RUNS, 2_000)) < share).cumsum(axis=1)
    losses = np.arange(1, 2_001) - wins
    assert share_ever(log_disagreement_evidence(wins, losses, share) >= math.log(1 / ALPHA)) <= 0.05
    # Not because it never rises.
    assert share_ever(log_disagreement_evidence(wins, losses, share) >= math.log(2)) > 0.1


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.01, 0.99), (0.2, 0.3, 0.5)])
def test_a_right_split_is_suspected_in_at_most_1_run_of_1000_and_reaches_20_in_at_most_5_percent(
    shares: tuple[float, ...],
) -> None:
    counts = np.random.default_rng(10).multinomial(10, shares, (RUNS, 2_000)).cumsum(axis=1)
    log_e = log_assignment_evidence(counts, np.array(shares))
    assert share_ever(log_e >= math.log(1_000)) <= 0.001
    assert 0.001 <= share_ever(log_e >= math.log(20)) <= 0.05


# Something to be found.


@CONFIGURATIONS
def test_5_points_on_60_percent_are_found_within_10000_answers_an_arm_in_at_least_90_percent(
    planned_answers: float, alpha: float
) -> None:
    generator = np.random.default_rng(11)
    better, control = (independent_answers(generator, share, ANSWERS, LOOK_AFTER) for share in (0.65, 0.6))
    found = compare(better, control, planned_answers, alpha)
    assert share_ever(found) >= 0.9
    # Half of the experiments are over after fewer answers an arm than that.
    assert 1_000 < LOOK_AFTER * median_first(found) < (2_000 if alpha == ALPHA else 5_000)


def test_an_arm_that_fails_outright_is_found_within_100_answers_in_at_least_90_percent() -> None:
    generator = np.random.default_rng(19)
    broken, control = (independent_answers(generator, share, 100, 5) for share in (0.05, 0.6))
    assert share_ever(compare(broken, control)) >= 0.9


def test_5_points_are_found_among_units_with_5_answers_each_in_at_least_90_percent() -> None:
    generator = np.random.default_rng(12)
    better, control = (
        clustered_answers(generator, geometric, acceptance, units=2_000, look_after=10)
        for acceptance in ((6.5, 3.5), (6.0, 4.0))
    )
    assert share_ever(compare(better, control)) >= 0.9


def test_a_system_that_is_5_points_better_on_the_same_answers_is_found_in_at_least_90_percent() -> None:
    moments = paired(np.random.default_rng(13), 0.05, units=2_000)
    bounds = mean_bounds(moments, (-1.0, 1.0), alpha=ALPHA, planned_answers=PLANNED_ANSWERS)
    assert share_ever(winners(bounds)) >= 0.9


def test_a_system_that_wins_60_percent_of_500_disagreements_is_found_in_at_least_90_percent() -> None:
    wins = (np.random.default_rng(14).random((RUNS, 500)) < 0.6).cumsum(axis=1)
    found = log_disagreement_evidence(wins, np.arange(1, 501) - wins) >= math.log(1 / ALPHA)
    assert share_ever(found) >= 0.9
    assert median_first(found) < 300


def test_a_precision_that_is_5_points_below_the_promise_falls_below_it_within_1500_answers() -> None:
    moments = independent_answers(np.random.default_rng(15), 0.9, 1_500, LOOK_AFTER)
    bounds = mean_bounds(moments, (0.0, 1.0), alpha=ALPHA, planned_answers=PLANNED_ANSWERS_OF_SHARE)
    assert share_ever(bounds.upper < 0.95) >= 0.9


def test_a_split_of_half_and_half_that_is_52_to_48_is_suspected_within_20000_units() -> None:
    counts = np.random.default_rng(16).multinomial(50, (0.52, 0.48), (RUNS, 400)).cumsum(axis=1)
    suspected = log_assignment_evidence(counts, np.array([0.5, 0.5])) >= math.log(1_000)
    assert share_ever(suspected) >= 0.9


# Few answers, extreme answers.


@pytest.mark.parametrize(
    ("treatment", "control"),
    [
        ([], []),
        ([(1, 1)], [(1, 0)]),
        ([(500, 500)], [(500, 0)]),
        ([(1, 1)] * 3, [(1, 0)] * 3),
        ([(40, 40)] * 3, [(40, 0)] * 3),
        ([(0, 0)] * 50, [(5, 1)] * 50),
        ([(5, 5), *[(0, 0)] * 50], [(5, 1)] * 50),
        ([(100_000, 100_000), *[(1, 1)] * 50], [(5, 1)] * 50),
    ],
)
def test_with_few_units_nothing_is_decided_however_clear_it_looks(
    treatment: list[tuple[int, int]], control: list[tuple[int, int]]
) -> None:
    comparison = compare_arms(outcomes(*treatment), outcomes(*control))
    assert (comparison.lower, comparison.upper) == (-1, 1)
    assert not comparison.is_decided
    assert not comparison.is_informative


def test_arms_without_a_single_failure_get_an_interval_with_a_width() -> None:
    sure = compare_arms(outcomes(*[(1, 1)] * 1_000), outcomes(*[(1, 1)] * 1_000))
    assert sure.difference == 0
    assert 0.002 < sure.upper == -sure.lower < 0.05


def test_systems_that_never_differed_may_still_differ() -> None:
    same = compare_on_same_answers(np.zeros(1_000, dtype=np.int64), np.ones(1_000, dtype=np.int64))
    assert same.difference == 0
    assert 0.002 < same.upper == -same.lower < 0.1


def test_a_thousand_successes_do_not_prove_that_there_will_be_no_failure() -> None:
    sequence = share_sequence(outcomes(*[(1, 1)] * 1_000))
    assert (sequence.share, sequence.upper) == (1, 1)
    assert 0.95 < sequence.lower < 0.998


def test_the_same_successes_of_fewer_units_say_less() -> None:
    widths = [1 - share_sequence(outcomes(*[(1_000 // units, 1_000 // units)] * units)).lower for units in (5, 50, 500)]
    assert widths[0] == 1
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_a_unit_with_half_of_the_answers_leaves_few_that_tell_anything() -> None:
    even = outcomes(*[(2, 2)] * 70, *[(2, 0)] * 30)
    uneven = outcomes((100, 70), *[(1, 1)] * 70, *[(1, 0)] * 30)
    assert share_sequence(even).lower > 0.3
    assert share_sequence(uneven).lower == 0


def test_without_answers_there_is_no_share_and_no_difference() -> None:
    empty = share_sequence(outcomes())
    assert (empty.share, empty.lower, empty.upper) == (None, 0, 1)
    assert compare_arms(outcomes(), outcomes((3, 1))).difference is None


# What the numbers are.


def test_the_standard_error_is_the_textbook_one_where_there_are_many_units() -> None:
    generator = np.random.default_rng(17)
    answers = lognormal(generator, (1, 20_000))[0]
    successes = generator.binomial(answers, generator.beta(2, 1, answers.size))
    sequence = share_sequence(UnitOutcomes(answers, successes))
    assert sequence.share is not None
    residuals = successes - sequence.share * answers
    error = math.sqrt((residuals**2).sum()) / answers.sum()
    x = (residuals**2).sum() / (0.1 * PLANNED_ANSWERS_OF_SHARE) * 8.2
    radius = error * math.sqrt((1 + 1 / x) * math.log((1 + x) / ALPHA**2))
    assert sequence.upper - sequence.share == pytest.approx(radius, rel=0.002)
    assert sequence.share - sequence.lower == pytest.approx(radius, rel=0.002)


def test_the_sequence_is_tightest_at_the_planned_number_of_answers() -> None:
    def standard_errors(answers: int, planned: int) -> float:
        half = np.array(answers / 2)
        arm = UnitMoments(*(np.array(float(answers)),) * 2, half, np.array(float(answers)), half, half)
        bounds = difference_bounds(arm, arm, alpha=ALPHA, planned_answers=planned)
        return float(bounds.upper) / math.sqrt(0.5 / answers)

    for planned in (2_000, 20_000):
        tightest = standard_errors(planned, planned)
        assert tightest == pytest.approx(3.03, abs=0.01)
        assert tightest < standard_errors(planned // 2, planned) < 1.03 * tightest
        assert tightest < standard_errors(planned * 2, planned) < 1.03 * tightest
        assert standard_errors(planned // 5, planned) < 1.11 * tightest


def test_arms_and_signs_are_not_mixed_up() -> None:
    better, worse = outcomes(*[(2, 2), (3, 2)] * 900), outcomes(*[(2, 1), (3, 1)] * 400)
    comparison, reverse = compare_arms(better, worse), compare_arms(worse, better)
    assert comparison.difference == pytest.approx(4 / 5 - 2 / 5)
    assert comparison.lower > 0
    assert comparison.is_decided
    assert reverse.is_decided
    assert (reverse.lower, reverse.upper) == pytest.approx((-comparison.upper, -comparison.lower))
    assert (comparison.treatment_units, comparison.control_units) == (1_800, 800)
    assert (comparison.treatment_answers, comparison.control_answers) == (4_500, 2_000)


def test_on_the_same_answers_a_difference_is_found_that_two_arms_would_not_show() -> None:
    generator = np.random.default_rng(18)
    second = (generator.random(3_000) < 0.7).astype(np.int64)
    first = np.where(generator.random(3_000) < 0.1, 1, second)
    ones = np.ones(3_000, dtype=np.int64)
    paired_result = compare_on_same_answers(first - second, ones)
    arms = compare_arms(UnitOutcomes(ones, first), UnitOutcomes(ones, second))
    assert paired_result.difference == pytest.approx(arms.difference)
    assert paired_result.is_decided
    assert not arms.is_decided
    assert paired_result.treatment_answers == paired_result.control_answers == 3_000


def test_units_without_answers_change_nothing() -> None:
    arm, control = outcomes(*[(2, 1)] * 100), outcomes(*[(3, 1)] * 100)
    more = outcomes(*[(2, 1)] * 100, *[(0, 0)] * 1_000)
    assert compare_arms(more, control) == compare_arms(arm, control)


def test_the_e_value_is_the_mean_of_the_likelihood_ratio_over_the_prior() -> None:
    shares = np.linspace(0, 1, 100_001)[1:-1]
    prior = stats.beta.pdf(shares, 5, 5)
    ratio = shares**30 * (1 - shares) ** 12 / 0.5**42
    expected = (prior * ratio).sum() / prior.sum()
    assert disagreement_evidence(30, 12).e_value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (0, 9), (9, 0), (25, 11), (30, 10), (31, 9), (1, 1_000_000)])
def test_the_bounds_of_wins_exclude_one_half_exactly_when_the_evidence_suffices(wins: int, losses: int) -> None:
    evidence = disagreement_evidence(wins, losses)
    assert evidence.is_decided == (evidence.lower > 0.5 or evidence.upper < 0.5)
    assert 0 <= evidence.lower <= evidence.upper <= 1
    mirrored = disagreement_evidence(losses, wins)
    assert (mirrored.lower, mirrored.upper) == pytest.approx((1 - evidence.upper, 1 - evidence.lower))
    assert mirrored.e_value == pytest.approx(evidence.e_value)
    assert evidence.e_value < math.inf


def test_without_disagreements_there_is_no_evidence() -> None:
    evidence = disagreement_evidence(0, 0)
    assert (evidence.e_value, evidence.lower, evidence.upper) == pytest.approx((1, 0, 1))


def test_the_evidence_about_a_split_is_a_fair_bet() -> None:
    shares = np.array([0.1, 0.9])
    counts = np.stack([np.arange(41), 40 - np.arange(41)], axis=1)
    chances = stats.binom.pmf(counts[:, 0], 40, 0.1)
    assert (chances * np.exp(log_assignment_evidence(counts, shares))).sum() == pytest.approx(1)


def test_evidence_about_a_ramp_multiplies_and_does_not_depend_on_how_time_is_cut() -> None:
    first, second = AssignmentPeriod((30, 570), (0.1, 0.9)), AssignmentPeriod((400, 420), (0.5, 0.5))
    both = sample_ratio_evidence([first, second]).e_value
    single = [sample_ratio_evidence([period]).e_value for period in (first, second)]
    assert both == pytest.approx(single[0] * single[1])
    halves = [AssignmentPeriod((15, 285), (0.1, 0.9)), second, AssignmentPeriod((15, 285), (0.1, 0.9))]
    assert sample_ratio_evidence(halves).e_value == pytest.approx(both)


def test_a_ramp_at_the_shares_that_were_set_is_not_suspected_though_its_sum_looks_uneven() -> None:
    ramp = [AssignmentPeriod((12, 988), (0.01, 0.99)), AssignmentPeriod((495, 505), (0.5, 0.5))]
    assert not sample_ratio_evidence(ramp).is_suspect
    assert sample_ratio_evidence([AssignmentPeriod((507, 1_493), (0.5, 0.5))]).is_suspect


def test_a_broken_split_is_suspected_among_tens_of_units() -> None:
    assert sample_ratio_evidence([AssignmentPeriod((30, 0), (0.5, 0.5))]).is_suspect
    assert not sample_ratio_evidence([AssignmentPeriod((16, 0), (0.5, 0.5))]).is_suspect
    assert not sample_ratio_evidence([]).is_suspect


def test_an_arm_without_a_share_may_have_no_units() -> None:
    assert not sample_ratio_evidence([AssignmentPeriod((10, 0), (1.0, 0.0))]).is_suspect
    closed = sample_ratio_evidence([AssignmentPeriod((1_000, 1), (1.0, 0.0))])
    assert closed.is_suspect
    assert closed.e_value < math.inf


# What people read, and what is refused.


TOO_LITTLE = (
    "Too little is known to say whether B accepts more or fewer (1,212 answers against 9); enough to decide: no"
)


def comparison_of(difference: float | None, lower: float, upper: float) -> Comparison:
    return Comparison(difference, lower, upper, ALPHA, 10, 8, 1_212, 9)


@pytest.mark.parametrize(
    ("comparison", "sentence"),
    [
        (comparison_of(0.0312, 0.0119, 0.0501), "B accepts 3.1 points more, [1.2, 5.0]; enough to decide: yes"),
        (comparison_of(-0.02, -0.0404, 0.0004), "B accepts 2.0 points fewer, [-4.0, 0.0]; enough to decide: no"),
        (comparison_of(-0.0004, -0.04, -0.0001), "B accepts 0.0 points more, [-4.0, 0.0]; enough to decide: yes"),
        (comparison_of(0.5, -0.25, 1), "B accepts 50.0 points more, [-25.0, 100.0]; enough to decide: no"),
        (comparison_of(0.5, -1, 1), TOO_LITTLE),
        (comparison_of(None, -1, 1), TOO_LITTLE),
    ],
)
def test_a_comparison_reads_as_a_sentence(comparison: Comparison, sentence: str) -> None:
    assert tell_comparison("B", "accepts", comparison) == sentence


def test_a_sentence_takes_other_words() -> None:
    told = tell_comparison(
        "version 7", "is right", comparison_of(-0.02, -0.03, -0.01), more="more often", fewer="less often"
    )
    assert told == "version 7 is right 2.0 points less often, [-3.0, -1.0]; enough to decide: yes"


def test_what_cannot_be_outcomes_is_refused() -> None:
    fine = outcomes((2, 1))
    with pytest.raises(ValueError, match="no more than those"):
        compare_arms(outcomes((1, 2)), fine)
    with pytest.raises(ValueError, match="fewer than 0"):
        share_sequence(outcomes((1, -1)))
    with pytest.raises(ValueError, match="needs its answers"):
        compare_on_same_answers(np.array([1, 0]), np.array([1]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        compare_arms(fine, fine, alpha=0)
    with pytest.raises(ValueError, match="plan 300 answers or more"):
        share_sequence(fine, planned_answers=30)
    with pytest.raises(ValueError, match="counts from 0"):
        disagreement_evidence(-1, 3)
    for counts, shares in [((1, 2), (0.5, 0.4)), ((1, -2), (0.5, 0.5)), ((1, 2, 3), (0.5, 0.5)), ((), ())]:
        with pytest.raises(ValueError, match="as many shares that add up to 1"):
            sample_ratio_evidence([AssignmentPeriod(counts, shares)])
