"""QIF: lines of one letter and a value, records that end with ^."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.services.statements.source import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

COLUMNS = {
    "date": "D",
    "amount": "T",
    "merchant": "P",
    "memo": "M",
    "account": "!Account",
    "channel_hint": "N",
    "category": "L",
}
_TRANSACTION_LISTS = frozenset(("bank", "ccard", "cash", "oth a", "oth l"))
_NOT_A_CATEGORY = re.compile(r"^\[.*\]|^--split--$", re.IGNORECASE)


def read_transactions(text: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
    """Each transaction of a QIF file with the line where it starts, as the texts of the fields in COLUMNS.

    Lists of categories, securities and so on are left out.
    """
    section, account = "bank", ""
    start, codes = 0, dict[str, str]()
    for number, line in enumerate(read_lines(text), start=1):
        code, value = line.strip()[:1], line.strip()[1:].strip()
        if code == "!":
            if codes and section in _TRANSACTION_LISTS:
                yield start, _fields(codes, account)  # the last record of a list may lack its ^
            codes = {}
            section = _section(value, section)
        elif code == "^":
            if section == "account":
                account = codes.get("N", account)
            elif codes and section in _TRANSACTION_LISTS:
                yield start, _fields(codes, account)
            codes = {}
        elif code:
            start = start if codes else number
            codes.setdefault(code.upper(), value)
    if codes and section in _TRANSACTION_LISTS:
        yield start, _fields(codes, account)


def _section(header: str, current: str) -> str:
    """The list that begins with a header line; options such as AutoSwitch begin none."""
    kind = header.casefold()
    if kind.startswith("type:"):
        return kind.removeprefix("type:").strip()
    return "account" if kind.startswith("account") else current


def _fields(codes: dict[str, str], account: str) -> dict[str, str]:
    number, category = codes.get("N", ""), codes.get("L", "")
    return {
        "date": codes.get("D", ""),
        "amount": codes.get("T") or codes.get("U", ""),
        "merchant": codes.get("P", ""),
        "memo": codes.get("M", ""),
        "account": account,
        "channel_hint": "" if number.isdigit() else number,  # a number is that of a cheque
        "category": "" if _NOT_A_CATEGORY.match(category) else category,
    }
