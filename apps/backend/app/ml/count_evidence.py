"""Evidence from counts, by exact test martingales: of two systems' disagreements, and of how units were assigned.

An e-value is what a stake of 1 has grown to by betting against a hypothesis. While the hypothesis holds, a bet is fair
at best, and the stake ever reaches 1/alpha with probability alpha or less (Ville 1939; Ramdas, Grünwald, Vovk and
Shafer 2023), so it may be read at any time and as often as wanted. The bets here are mixtures of likelihoods (Robbins
1970; Howard, Ramdas, McAuliffe and Sekhon 2021), and hold for any counts, not just for large ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaln, gammaln, xlogy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.ml.bootstrap import Floats

# A mismatch makes a whole experiment worthless and is sought in every one, at every look: it has to be nearly sure.
SUSPECT_E_VALUE: Final = 1_000.0

# Beta(5, 5) expects that the better system wins between a third and two thirds of the disagreements.
_DISAGREEMENT_PRIOR: Final = 5.0
# How many assignments a prior about the shares is worth: few, to find a broken split among tens of units; many, to find
# one that is off by a point or two among tens of thousands.
_SPLIT_CONCENTRATIONS: Final = (10.0, 1_000.0)
# e to this is still a float.
_MOST_LOG: Final = 700.0


Counts = NDArray[np.int64] | int


@dataclass(frozen=True)
class DisagreementEvidence:
    """Which of two systems is right where they differ.

    Attributes:
        wins: Disagreements that the first has right.
        losses: Disagreements that the second has right.
        e_value: Against both being right equally often; e^700 stands for anything larger.
        lower: Lower bound of the first's share of the wins.
        upper: Upper bound of it.
        alpha: How probable it is at most that the truth ever lies outside.
    """

    wins: int
    losses: int
    e_value: float
    lower: float
    upper: float
    alpha: float

    @property
    def is_decided(self) -> bool:
        """Whether the evidence suffices; it does exactly when the bounds exclude one half."""
        return self.e_value >= 1 / self.alpha


class AssignmentPeriod(NamedTuple):
    """Units that were assigned while the shares stood still.

    Attributes:
        counts: (arms,), units that were assigned to each arm for the first time.
        shares: (arms,), what each arm should have got; they add up to 1.
    """

    counts: Sequence[int]
    shares: Sequence[float]


@dataclass(frozen=True)
class SampleRatioEvidence:
    """Evidence that units were not assigned in the shares that were set.

    Attributes:
        e_value: Against the shares that were set; e^700 stands for anything larger.
        is_suspect: Whether it reaches SUSPECT_E_VALUE; then nothing that the experiment says should be believed.
    """

    e_value: float
    is_suspect: bool


def disagreement_evidence(wins: int, losses: int, *, alpha: float = 0.05) -> DisagreementEvidence:
    """Weigh whether either of two systems wins their disagreements, as often as wanted.

    An anytime-valid form of McNemar's test (1947): the likelihood of the share of wins, mixed over a Beta prior,
    against that of one half (Robbins 1970; Howard et al. 2021). The bounds hold the shares that the same bet does not
    reject.

    Args:
        wins: Disagreements that the first has right. They must be independent: count a unit once, by its first
            disagreement, say, and not every answer of it.
        losses: Disagreements that the second has right.
        alpha: How probable it may be that the bounds ever miss the truth.

    Raises:
        ValueError: Counts are negative, or alpha is not between 0 and 1.
    """
    if min(wins, losses) < 0 or not 0 < alpha < 1:
        raise ValueError("wins and losses are counts from 0, and alpha is a probability between 0 and 1")
    return DisagreementEvidence(
        wins=wins,
        losses=losses,
        e_value=_from_log(float(log_disagreement_evidence(wins, losses))),
        lower=_least_share(wins, losses, alpha),
        upper=1 - _least_share(losses, wins, alpha),
        alpha=alpha,
    )


def log_disagreement_evidence(wins: Counts, losses: Counts, share: float = 0.5) -> Floats:
    """Return the logarithm of the e-value against a share of wins, for counts of any one shape.

    Args:
        wins: Disagreements that the first has right.
        losses: Disagreements that the second has right.
        share: What is tested, between 0 and 1.
    """
    prior = _DISAGREEMENT_PRIOR
    mixed = betaln(prior + wins, prior + losses) - betaln(prior, prior)
    return np.asarray(mixed - xlogy(wins, share) - xlogy(losses, 1 - share))


def sample_ratio_evidence(periods: Sequence[AssignmentPeriod]) -> SampleRatioEvidence:
    """Weigh whether units were assigned in other shares than were set, as often as wanted.

    A ramp changes the shares. What was assigned at equal shares gives a factor, whenever it was, and factors multiply:
    every assignment is a fair bet, whatever came before it. A mismatch calls for a look at how units are assigned,
    exposed and counted (Fabijan et al. 2019), not for another analysis.

    Args:
        periods: In any order, and cut as finely as wanted.

    Raises:
        ValueError: Counts or shares are negative, or shares do not match the counts or do not add up to 1.
    """
    totals: dict[tuple[float, ...], NDArray[np.int64]] = {}
    for counts, shares in periods:
        assigned = np.asarray(counts, dtype=np.int64)
        if assigned.size != len(shares) or not math.isclose(sum(shares), 1) or min(*counts, *shares) < 0:
            raise ValueError("each period needs counts of units, and as many shares that add up to 1")
        totals[tuple(shares)] = totals.get(tuple(shares), 0) + assigned
    log_e = sum(float(log_assignment_evidence(counts, np.asarray(shares))) for shares, counts in totals.items())
    return SampleRatioEvidence(_from_log(log_e), log_e >= math.log(SUSPECT_E_VALUE))


def log_assignment_evidence(counts: NDArray[np.int64], shares: Floats) -> Floats:
    """Return the logarithm of the e-value against the shares that assignments were to have.

    The multinomial test martingale of Lindon and Malek (2022): the counts' likelihood, mixed over a Dirichlet prior
    about the shares, against that of the shares. The mean over two priors of different concentration is one again.

    Args:
        counts: (…, arms), how many units were assigned to each arm.
        shares: (arms,), what was set; they add up to 1.

    Returns:
        (…,); infinity where an arm without a share got units.
    """
    impossible = (counts[..., shares == 0] > 0).any(axis=-1)
    counts, shares = counts[..., shares > 0], shares[shares > 0]
    mixed = [
        _log_dirichlet(weight * shares + counts) - _log_dirichlet(weight * shares) for weight in _SPLIT_CONCENTRATIONS
    ]
    log_e = np.logaddexp.reduce(mixed) - math.log(len(mixed)) - xlogy(counts, shares).sum(axis=-1)
    return np.where(impossible, np.inf, log_e)


def _least_share(wins: int, losses: int, alpha: float) -> float:
    """Find the lower bound of the share of wins; below the share that was seen, the evidence grows steadily."""
    if wins == 0:
        return 0.0

    def excess(share: float) -> float:
        return float(log_disagreement_evidence(wins, losses, share)) + math.log(alpha)

    return float(brentq(excess, 1e-300, wins / (wins + losses)))


def _log_dirichlet(parameters: Floats) -> Floats:
    return np.asarray(gammaln(parameters).sum(axis=-1) - gammaln(parameters.sum(axis=-1)))


def _from_log(log_e: float) -> float:
    return math.exp(min(log_e, _MOST_LOG))
