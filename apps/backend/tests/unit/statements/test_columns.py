"""Which column serves which field."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from app.errors import AmbiguousInput, InvalidInput
from app.services.statements.columns import FIELDS, SYNONYMS, is_balance, normalise, recognise

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[..., Any]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            "date,description,amount,currency,account,category,subcategory",
            {name: name for name in ("date", "description", "amount", "currency", "account", "category")},
        ),
        (
            "Type,Product,Started Date,Completed Date,Description,Amount,Fee,Currency,State,Balance",
            {
                "date": "Completed Date",
                "amount": "Amount",
                "currency": "Currency",
                "description": "Description",
                "channel_hint": "Type",
            },
        ),
        (
            "Transaction Date,Posted Date,Card No.,Description,Category,Debit,Credit",
            {
                "date": "Transaction Date",
                "debit": "Debit",
                "credit": "Credit",
                "description": "Description",
                "account": "Card No.",
                "category": "Category",
            },
        ),
        (
            "Buchungstag,Valuta,Umsatz,Währung,Auftraggeber/Empfänger,Verwendungszweck,Kontostand",
            {
                "date": "Buchungstag",
                "amount": "Umsatz",
                "currency": "Währung",
                "merchant": "Auftraggeber/Empfänger",
                "memo": "Verwendungszweck",
            },
        ),
        (
            "Date,Date de valeur,Débit (EUR),Crédit (EUR),Libellé,Solde (EUR)",
            {"date": "Date", "debit": "Débit (EUR)", "credit": "Crédit (EUR)", "description": "Libellé"},
        ),
        ("Account balance,Saldo,Running total,Solde,Amount,Date", {"date": "Date", "amount": "Amount"}),
    ],
)
def test_a_header_tells_its_fields(header: str, expected: dict[str, str]) -> None:
    assert recognise(header.split(",")) == expected


def test_names_are_compared_without_case_accents_and_punctuation() -> None:
    assert normalise("  Währung (€)") == "wahrung"
    assert normalise("DÉBIT/Crédit") == "debit credit"


def test_every_synonym_is_written_as_it_is_compared_and_is_no_balance() -> None:
    for field in FIELDS:
        for word in SYNONYMS[field]:
            assert normalise(word) == word
            assert not is_balance(word)


def test_a_balance_is_never_the_amount(read: Read) -> None:
    with pytest.raises(InvalidInput, match="No column holds the amount"):
        read("Date,Description,Running Balance\n2025-01-31,A,100.00\n2025-02-01,B,99.00\n")


def test_a_merchant_alone_is_the_description_and_stands_in_for_a_blank_one(read: Read) -> None:
    assert read("date,merchant,amount\n2025-01-31,Costa,1.50\n").column("description") == ["Costa"]
    both = read("date,description,merchant,amount\n2025-01-31,CARD 12,Costa,1.50\n2025-01-31,,Costa,1.50\n")
    assert both.column("description") == ["CARD 12", "Costa"]


def test_merchant_and_memo_are_joined_without_saying_it_twice(read: Read) -> None:
    statement = read(
        "date,payee,memo,amount\n2025-01-31,Costa,Visit 7,1.50\n2025-01-31,Costa,COSTA LONDON,1.50\n"
        "2025-01-31,Costa London,costa,1.50\n2025-01-31,,Fee,1.50\n"
    )
    assert statement.column("description") == ["Costa Visit 7", "COSTA LONDON", "Costa London", "Fee"]


def test_a_repeated_amount_column_is_a_question_unless_both_say_the_same(read: Read) -> None:
    header = "date,description,amount,amount\n"
    assert read(header + "2025-01-31,A,1.50,1.50\n").amounts() == ["1.50"]
    with pytest.raises(AmbiguousInput) as refusal:
        read(header + "2025-01-31,A,1.50,1.25\n")
    assert refusal.value.choices == ("amount=amount", "amount=amount (2)")
    assert read(header + "2025-01-31,A,1.50,1.25\n", columns={"amount": "amount (2)"}).amounts() == ["1.25"]


def test_columns_without_a_header_are_named_by_their_place(read: Read) -> None:
    content = "2025-01-01,2025-01-02,Coffee,-1.00\n2025-01-03,2025-01-05,Tea,-1.50\n"
    assert read(content, columns={"date": "column 2"}).dates() == ["2025-01-02", "2025-01-05"]


def test_a_column_named_valuta_is_a_date_or_a_currency_by_what_it_holds(read: Read) -> None:
    dutch = read("Datum;Omschrijving;Bedrag;Valuta\n31-01-2025;A;1,50;EUR\n")
    german = read("Buchungstag;Valuta;Beschreibung;Betrag\n31.01.2025;01.02.2025;A;1,50\n")
    assert dutch.column("currency") == ["EUR"]
    assert german.column("currency") == [None]
    assert german.dates() == ["2025-01-31"]


def test_the_account_of_the_preamble_is_taken_and_masked(read: Read) -> None:
    content = "Account: 12345678\n\ndate,description,amount\n2025-01-31,A,1.50\n"
    masked = "xxxx5678-" + sha256(b":12345678").hexdigest()[:6]
    assert read(content).column("account") == [masked]
    assert read(content.replace("Account:", "Konto;").replace(",", ";")).column("account") == [masked]


def test_a_file_without_account_says_where_its_rows_go(read: Read) -> None:
    statement = read("date,description,amount\n2025-01-31,A,1.50\n")
    assert statement.column("account") == ["default"]
    assert any("--account" in warning for warning in statement.layout.warnings)


def test_a_header_without_records_is_an_empty_statement(read: Read) -> None:
    statement = read("date,description,amount\n")
    assert statement.layout.row_count == 0
    assert statement.layout.warnings[-1] == "The file has no records."


def test_the_layout_is_json(read: Read) -> None:
    layout = read("date,description,amount\n2025-01-31,A,1.50\n").layout
    assert json.loads(json.dumps(layout.to_dict())) == layout.to_dict()
    assert layout.to_dict()["columns"] == {"date": "date", "amount": "amount", "description": "description"}
