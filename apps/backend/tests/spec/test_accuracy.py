"""What the heuristics must reach on real transactions, which are not part of the repository.

CARD_TRANSACTIONS names the folder of the files; without them nothing is proved here, and the run says so.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.config import REPOSITORY_ROOT
from app.services.backtest import run_backtest

FOLDER = Path(os.environ.get("CARD_TRANSACTIONS", REPOSITORY_ROOT.parent / "shared" / "data"))
CARDS = FOLDER / "cards_calderdale.csv.gz"


@pytest.mark.skipif(not CARDS.is_file(), reason="the public card transactions are not on this machine")
def test_heuristics_are_right_often_enough_and_say_nothing_where_they_would_not_be() -> None:
    report = run_backtest(CARDS, system="rules", split=0.8)
    assert (report.train_rows, report.test_rows, report.classes) == (61_830, 14_170, 34)
    assert report.accuracy >= 0.84
    assert 1 - (report.auto_apply["error"] or 0) >= 0.95
    assert (report.auto_apply["coverage"] or 0) >= 0.75
