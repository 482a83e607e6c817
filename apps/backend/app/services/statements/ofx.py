"""OFX and QFX, versions 1 (SGML) and 2 (XML): the transactions as text.

Tags are read one after the other, and a transaction is whatever stands between two STMTTRN tags. That is
all a statement needs, and it holds where a document tree breaks: at SGML elements that are empty and never
closed (a tree nests the next transaction into them), at one damaged transaction among good ones, and at
files larger than memory. No entity is ever defined or fetched, and a file that tries to is refused.
"""

from __future__ import annotations

import html
import re
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from app.errors import InvalidInput
from app.services.statements.accounts import mask_account
from app.services.statements.source import MAX_LINE, clean_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

COLUMNS = {
    "date": "DTPOSTED",
    "posted_at": "DTPOSTED",
    "amount": "TRNAMT",
    "currency": "CURDEF",
    "merchant": "NAME",
    "memo": "MEMO",
    "account": "ACCTID",
    "mcc": "SIC",
    "channel_hint": "TRNTYPE",
    "external_id": "FITID",
}
_CHUNK = 1 << 16
_TOKEN = re.compile(
    r"<!\[CDATA\[(?P<verbatim>.*?)\]\]>(?P<rest>[^<]*)|<(?P<tag>/?[\w.]+)[^<>]*>(?P<text>[^<]*)", re.DOTALL
)
_FORBIDDEN = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_BORDERS = frozenset(("STMTTRN", "/STMTTRN", "/BANKTRANLIST", "BANKTRANLIST", "/OFX"))
_OWNERS = frozenset(("BANKACCTFROM", "CCACCTFROM", "INVACCTFROM"))
_POSTED = re.compile(r"([0-9]{8})(?:([0-9]{2})([0-9]{2})([0-9]{2})?)?")
# Banks that know no time write noon, so that no time zone can move the date.
_NO_TIME = frozenset(("00:00:00", "12:00:00"))


def read_transactions(text: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
    """Each transaction of an OFX file with the line where it starts, as the texts of the fields in COLUMNS.

    Raises:
        InvalidInput: The file declares a document type or entities, or is not OFX.
    """
    return _transactions(_elements(text))


def _elements(text: TextIO) -> Iterator[tuple[int, str, str]]:
    """Line, tag ("/TAG" where it closes) and text of every element, from a window that moves over the file.

    A CDATA section has no tag: it goes on with the element before it.
    """
    line, window = 1, ""
    for chunk in chain(iter(partial(text.read, _CHUNK), ""), [None]):
        window += clean_text(chunk or "")
        end = len(window) if chunk is None else _complete(window)
        if len(window) - end > MAX_LINE:
            raise InvalidInput("The OFX file holds an element of more than a million characters.")
        if _FORBIDDEN.search(window, 0, end):
            raise InvalidInput("The OFX file declares a document type or entities, which no bank does; it is not read.")
        seen = 0
        for token in _TOKEN.finditer(window, 0, end):
            line += _line_ends(window[seen : token.start()])
            seen = token.start()
            if token["tag"] is None:
                yield line, "", token["verbatim"] + html.unescape(token["rest"])
            else:
                yield line, token["tag"].upper(), html.unescape(token["text"])
        line += _line_ends(window[seen:end])
        window = window[end:]


def _complete(window: str) -> int:
    """Where the last element begins that may go on behind the window."""
    verbatim = window.rfind("<![CDATA[")
    if verbatim >= 0 and window.find("]]>", verbatim) < 0:
        return verbatim
    return max(window.rfind("<"), 0)


def _line_ends(text: str) -> int:
    return text.count("\n") or text.count("\r")


def _transactions(elements: Iterator[tuple[int, str, str]]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each transaction with the line where it starts, in the account and currency of its statement."""
    statement = {"BANKID": "", "ACCTID": "", "CURDEF": ""}
    last = ""
    start, record, original = 0, dict[str, str](), False
    for line, tag, text in elements:
        if tag in _BORDERS:
            if record:
                yield start, _fields(record, statement)
            start, record = line, {"STMTTRN": ""} if tag == "STMTTRN" else {}
        elif tag.endswith("ORIGCURRENCY"):
            original = not tag.startswith("/")
        elif not tag:
            record[last] = record.get(last, "") + text
        elif record and not original and not tag.startswith("/"):
            record[tag] = record.get(tag, "").strip() or text
        elif tag in _OWNERS:
            statement |= {"BANKID": "", "ACCTID": ""}  # the next account may be a card, which has no bank
        elif tag in statement:
            statement[tag] = text
        last = tag
    if record:
        yield start, _fields(record, statement)


def _fields(record: dict[str, str], statement: dict[str, str]) -> dict[str, str]:
    posted = record.get("DTPOSTED", "").strip()
    day, hour, minute, second = match.groups() if (match := _POSTED.match(posted)) else (posted, None, None, None)
    time = f"{hour}:{minute}:{second or '00'}" if hour else ""
    return {
        "date": day,
        "posted_at": "" if time in _NO_TIME else time,
        "amount": record.get("TRNAMT", ""),
        "currency": record.get("CURSYM") or statement["CURDEF"],
        "merchant": record.get("NAME", ""),
        "memo": record.get("MEMO", ""),
        "account": mask_account(statement["ACCTID"], statement["BANKID"]),
        "mcc": record.get("SIC", ""),
        "channel_hint": record.get("TRNTYPE", ""),
        "external_id": record.get("FITID", ""),
    }
