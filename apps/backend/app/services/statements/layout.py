"""What a person may say about a statement file, and what was found out about it."""

from __future__ import annotations

import codecs
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from app.errors import InvalidInput
from app.services.statements.columns import FIELDS
from app.services.statements.dates import ORDERS, check_pattern
from app.services.statements.source import clean_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.services.statements.signs import Signs

# What a row may hold; longer values do not fit an index of the database, which ends at some 2,700 bytes.
MAX_CHARACTERS = {"account": 200, "description": 1_000, "channel_hint": 200, "category": 200, "external_id": 200}
MAX_BYTES = 2_000

# Python's own notations; what they decode to is not what the file shows.
_NOTATIONS = frozenset(("utf-7", "unicode-escape", "raw-unicode-escape", "idna", "punycode", "undefined"))
_DELIMITER_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


@dataclass(frozen=True)
class StatementOptions:
    """What the person says about the file; None leaves it to the file itself.

    Attributes:
        account: Account of every row, whatever the file says; up to 200 characters.
        columns: Field to column name in the file, such as {"date": "Buchungstag"}; fields are
            `columns.FIELDS`. Columns without a header are called "column 1", "column 2" and so on.
        date_format: "dmy", "mdy", "ymd" or a strptime pattern.
        decimal: Decimal mark, "." or ",".
        delimiter: One character, or the name "tab".
        encoding: Name of a text encoding, such as "cp1252".
        spending: "positive" when the file writes spending as positive amounts; signs are flipped.
    """

    account: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    date_format: str | None = None
    decimal: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    spending: str = "negative"

    def __post_init__(self) -> None:
        """Take out characters that no text has, and refuse values that no file could satisfy.

        Raises:
            InvalidInput: An option has a value outside its range.
        """
        for option in fields(self):
            said = getattr(self, option.name)
            if isinstance(said, str):
                object.__setattr__(self, option.name, clean_text(said))
        object.__setattr__(self, "columns", {name: clean_text(column) for name, column in self.columns.items()})
        unknown = sorted(set(self.columns) - set(FIELDS))
        if unknown:
            raise InvalidInput(f"There is no such field; the fields are {', '.join(FIELDS)}.")
        if self.spending not in ("negative", "positive"):
            raise InvalidInput("Spending is 'negative' or 'positive'.")
        if self.decimal not in (None, ".", ","):
            raise InvalidInput("The decimal mark is '.' or ','.")
        if self.date_format is not None and self.date_format not in ORDERS:
            check_pattern(self.date_format)
        if self.account is not None and not self.account.strip():
            raise InvalidInput("The account name is empty.")
        if self.account is not None and len(self.account) > MAX_CHARACTERS["account"]:
            raise InvalidInput(f"The account name is longer than {MAX_CHARACTERS['account']} characters.")
        self._check_delimiter()
        self._check_encoding()

    def _check_delimiter(self) -> None:
        if self.delimiter is None:
            return
        mark = self.delimiter_mark
        if mark is None or len(mark) != 1 or mark in '"\r\n ':
            raise InvalidInput("The delimiter is one character such as ; or the word tab.")

    def _check_encoding(self) -> None:
        if self.encoding is None:
            return
        try:
            "a".encode(self.encoding)  # unlike a lookup, refuses what is no text encoding, such as base64
            known = codecs.lookup(self.encoding).name not in _NOTATIONS
        except (LookupError, ValueError):
            known = False
        if not known:
            raise InvalidInput("There is no text encoding of that name; try utf-8 or cp1252.")

    @property
    def delimiter_mark(self) -> str | None:
        """The delimiter itself, with names such as "tab" resolved."""
        return None if self.delimiter is None else _DELIMITER_NAMES.get(self.delimiter, self.delimiter)


@dataclass(frozen=True)
class StatementLayout:
    """How one file is written, decided from all of its rows.

    Attributes:
        format: "csv", "ofx" or "qif".
        encoding: Text encoding.
        delimiter: Column delimiter of a CSV file.
        header_line: Line of the header, counted from 1; None when there is none.
        first_line: Line where the records of a CSV file begin.
        names: All column names in file order, made unique; empty for OFX and QIF.
        columns: Field to the column (or tag) that it is read from.
        date_format: "dmy", "mdy", "ymd" or a strptime pattern.
        decimal: Decimal mark.
        signs: How spending is told from income, one of `signs.Signs`.
        account: Account of rows that name none.
        currency: Currency of rows that name none.
        row_count: Number of records, good and bad.
        warnings: Sentences worth showing before anything is written.
    """

    format: str
    encoding: str
    delimiter: str | None = None
    header_line: int | None = None
    first_line: int = 1
    names: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    date_format: str = "ymd"
    decimal: str = "."
    signs: Signs = "written"
    account: str = "default"
    currency: str | None = None
    row_count: int = 0
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The layout as JSON types."""
        return asdict(self) | {
            "names": list(self.names),
            "columns": dict(self.columns),
            "warnings": list(self.warnings),
        }
