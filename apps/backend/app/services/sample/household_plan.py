"""What happens to a household every month: pay, rent, bills, subscriptions, fees, moves between accounts."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

_ALL_YEAR = tuple(range(1, 13))


class Form(StrEnum):
    """How money moves; banks word each in their own way."""

    CARD = "card"
    REFUND = "refund"
    CASH = "cash"
    DIRECT_DEBIT = "direct debit"
    STANDING_ORDER = "standing order"
    CREDIT = "credit"
    TRANSFER = "transfer"
    CHARGE = "charge"


class Regular(NamedTuple):
    """A payment that comes back.

    Attributes:
        name: As the bank is told it.
        category: What it truly is.
        account: The account it touches.
        form: How it is paid.
        day: Day of the month, up to 28; moved to a working day.
        pence: Signed; spending is negative.
        share: Households in a hundred that have it.
        months: Months of the year in which it is due.
        varies: The amount differs every time.
        personal: The amount differs between households (rent does, a streaming price does not).
        later_pence: Price after the change; 0 means that it never changes.
        changes_after: Hundredths of the ledger's months after which the price changes.
        mcc: Merchant category code, for payments by card.
    """

    name: str
    category: str
    account: str
    form: Form
    day: int
    pence: int
    share: int = 100
    months: tuple[int, ...] = _ALL_YEAR
    varies: bool = False
    personal: bool = True
    later_pence: int = 0
    changes_after: int = 50
    mcc: str | None = None


class Move(NamedTuple):
    """A transfer between two accounts of one household; both legs are on statements."""

    source: str
    target: str
    source_text: str
    target_text: str
    day: int
    pence: int
    months: tuple[int, ...] = _ALL_YEAR


def _subscription(name: str, account: str, day: int, pence: int, share: int = 100) -> Regular:
    by_card = account == "card"
    form, mcc = (Form.CARD, "4899") if by_card else (Form.DIRECT_DEBIT, None)
    return Regular(name, "Subscriptions", account, form, day, -pence, share, personal=False, mcc=mcc)


REGULARS = (
    Regular("Calder Instruments PLC Salary", "Income", "current", Form.CREDIT, 28, 268_000, later_pence=277_400),
    Regular("Aire Valley Council Payroll", "Income", "joint", Form.CREDIT, 15, 171_500, 80, later_pence=176_000),
    Regular("Child Benefit", "Income", "joint", Form.CREDIT, 6, 16_700, 70, personal=False),
    Regular("Interest Earned", "Income", "savings", Form.CREDIT, 1, 1_840, varies=True),
    Regular("Millgate Lettings Rent", "Housing", "joint", Form.STANDING_ORDER, 1, -98_500, later_pence=-102_500),
    Regular("Borough Council Tax", "Housing", "joint", Form.DIRECT_DEBIT, 5, -16_900,
            months=(1, 4, 5, 6, 7, 8, 9, 10, 11, 12)),
    Regular("Moorland Energy", "Utilities", "joint", Form.DIRECT_DEBIT, 12, -14_200, later_pence=-15_900),
    Regular("Pennine Water", "Utilities", "joint", Form.DIRECT_DEBIT, 18, -3_850),
    Regular("Fibreway Broadband", "Utilities", "current", Form.DIRECT_DEBIT, 20, -3_200, personal=False,
            later_pence=-3_590, changes_after=40),
    Regular("Hilltop Mobile", "Utilities", "current", Form.DIRECT_DEBIT, 9, -1_450, varies=True),
    Regular("Shire Mutual Car Insurance", "Insurance", "current", Form.DIRECT_DEBIT, 3, -4_420, later_pence=-4_980),
    Regular("Shire Mutual Home Insurance", "Insurance", "joint", Form.DIRECT_DEBIT, 3, -1_960),
    Regular("Safe Paws Pet Cover", "Insurance", "joint", Form.DIRECT_DEBIT, 16, -1_280, 45),
    Regular("Little Acorns Nursery", "Children", "joint", Form.DIRECT_DEBIT, 2, -41_000, 60, varies=True),
    Regular("Fit Foundry Gym", "Health", "current", Form.DIRECT_DEBIT, 4, -2_499, personal=False,
            later_pence=-2_799, changes_after=60),
    Regular("Monthly Account Fee", "Fees", "current", Form.CHARGE, 1, -300, personal=False),
    Regular("Overdraft Interest", "Fees", "current", Form.CHARGE, 2, -640, months=(1, 2, 8, 12), varies=True),
    Regular("Interest Charged", "Fees", "card", Form.CHARGE, 11, -1_150, months=(1, 2, 3, 6, 9, 10), varies=True),
    Regular("Non-Sterling Transaction Fee", "Fees", "card", Form.CHARGE, 22, -290, months=(5, 7, 8), varies=True),
    _subscription("Streamhaus", "card", 7, 1_099)._replace(later_pence=-1_299, changes_after=40),
    _subscription("Tunely Premium", "card", 14, 1_099)._replace(later_pence=-1_199, changes_after=70),
    _subscription("Amazon Prime", "card", 19, 899)._replace(later_pence=-999, changes_after=55),
    _subscription("Daily Courier Digital", "current", 10, 1_200)._replace(later_pence=-1_500, changes_after=30),
    _subscription("Cloudnook Storage", "card", 23, 249),
    _subscription("Kinoteca+", "card", 26, 599, 50)._replace(later_pence=-799, changes_after=65),
    _subscription("Pixel Vault Games", "current", 17, 799, 40),
)  # fmt: skip

MOVES = (
    Move("current", "joint", "Transfer to Joint", "Transfer from Current", 28, 65_000),
    Move("current", "savings", "Transfer to Savings", "Transfer from Current", 27, 20_000),
    Move("current", "card", "Card Repayment", "Payment Received Thank You", 21, 42_000),
    Move("savings", "current", "Transfer to Current", "Transfer from Savings", 13, 30_000, (1, 4, 7, 8, 12)),
    Move("joint", "savings", "Transfer to Holiday Pot", "Transfer from Joint", 8, 12_000, (1, 2, 3, 4, 5, 9, 10)),
)
