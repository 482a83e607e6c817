"""CSV as banks in several countries write it."""

from __future__ import annotations

import gzip
import re
from encodings.aliases import aliases
from typing import TYPE_CHECKING, Any

import pytest

from app.errors import AmbiguousInput, InvalidInput, TooLarge
from app.services.statements import StatementOptions, inspect_statement, source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Read = Callable[..., Any]

DIALECTS = {
    "plain": (
        "date,description,amount,currency,account,category\n"
        "2025-01-31,Coffee,-3.50,GBP,Joint,Eating out\n2025-02-01,Pay,1000.00,GBP,Joint,\n"
    ),
    "German, semicolons, decimal comma, preamble": (
        '"Kontonummer:";"DE00 1234 5678"\n\n"Zeitraum:";"Januar"\n'
        '"Buchungstag";"Wertstellung";"Auftraggeber/Empfänger";"Verwendungszweck";"Betrag (EUR)";"Saldo"\n'
        '"31.01.25";"31.01.25";"Coffee";"Karte 12";"-3,50";"1.996,50"\n'
        '"01.02.25";"03.02.25";"Pay";"";"1.000,00";"2.996,50"\n'
    ),
    "French, debit and credit": (
        "Date;Libellé;Débit euros;Crédit euros\n31/01/2025;Coffee;3,50;\n01/02/2025;Pay;;1 000,00\n"
    ),
    "Dutch, indicator": (
        '"Datum","Naam / Omschrijving","Rekening","Tegenrekening","Code","Af Bij","Bedrag (EUR)","Mutatiesoort"\n'
        '"20250131","Coffee","NL01","","BA","Af","3,50","Betaalautomaat"\n'
        '"20250201","Pay","NL01","NL02","OV","Bij","1000,00","Overschrijving"\n'
    ),
    "Spanish, tabs, trailing minus": (
        "Fecha operación\tConcepto\tImporte\tSaldo\n"
        "31/01/2025\tCoffee\t3,50-\t10,00\n01/02/2025\tPay\t1.000,00\t1.010,00\n"
    ),
    "Italian, pipes": ("Data contabile|Descrizione|Dare|Avere\n31/01/2025|Coffee|-3,50|\n01/02/2025|Pay||1.000,00\n"),
    "Portuguese, month names": (
        "Data;Descrição;Montante;Saldo\n31 jan 2025;Coffee;-3,50;0\n1 fev 2025;Pay;1000,00;0\n"
    ),
    "American, parentheses and dollars": (
        'Posting Date,Description,Type,Amount,Balance\n01/31/2025,Coffee,POS,($3.50),"$1,000.00"\n'
        '02/01/2025,Pay,ACH,"$1,000.00","$2,000.00"\n'
    ),
    "American, debit and credit words": (
        "Date,Type,Description,Amount\nJan 31, 2025,DEBIT,Coffee,3.50\n".replace("Jan 31, 2025", '"Jan 31, 2025"')
        + '"Feb 1, 2025",CREDIT,Pay,1000.00\n'
    ),
    "Indian, lakh and marks": (
        'Txn Date,Particulars,Amount\n31-Jan-2025,Coffee,3.50 Dr\n01-Feb-2025,Pay,"1,000.00 Cr"\n'
    ),
    "Swiss apostrophes and unicode minus": (
        "Buchungsdatum;Buchungstext;Beschreibung;Betrag\n31.01.2025;Karte;Coffee;CHF \u22123.50\n"
        "01.02.2025;Eingang;Pay;CHF 1'000.00\n"
    ),
    "a card that marks its credits only": (
        "Date,Description,Amount\n2025-01-31,Coffee,3.50\n2025-02-01,Pay,1000.00 CR\n"
    ),
    "withdrawals and deposits with zeros": (
        "Date,Narrative,Withdrawals,Deposits,Running Balance\n"
        "31 January 2025,Coffee,3.50,0.00,5.00\n1 February 2025,Pay,0.00,1000.00,1005.00\n"
    ),
    "a separator line": "sep=;\nDate;Description;Amount\n2025-01-31;Coffee;-3.50\n2025-02-01;Pay;1000.00\n",
    "no header": "2025-01-31,Coffee,-3.50\n2025-02-01,Pay,1000.00\n",
    "names of no language we know": ("Päivä;Kuvaus;Määrä\n31.1.2025;Coffee;-3,50\n1.2.2025;Pay;1000,00\n"),
    "blank lines, spaces and a footer": (
        "Date , Description , Amount\n\n 2025-01-31 , Coffee , -3.50 \n   \n2025-02-01,Pay,1000.00\nTotal,,996.50\n"
    ),
}


@pytest.mark.parametrize(
    "content", [pytest.param(content, id=name) for name, content in DIALECTS.items() if "balance" not in name]
)
def test_every_dialect_gives_the_same_two_rows(read: Read, content: str) -> None:
    statement = read(content)
    assert statement.dates() == ["2025-01-31", "2025-02-01"]
    assert statement.amounts() == ["-3.50", "1000.00"]
    assert [text.split()[0] for text in statement.column("description")] == ["Coffee", "Pay"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf_8_sig"])
def test_a_wide_encoding_may_be_said(read: Read, encoding: str) -> None:
    content = "date,description,amount\n2025-01-31,Café,-3.50\n".encode(encoding)
    assert read(content, encoding=encoding).column("description") == ["Café"]


@pytest.mark.parametrize("encoding", sorted(set(aliases.values())))
def test_no_encoding_brings_in_what_postgresql_cannot_hold(read: Read, encoding: str) -> None:
    escapes = rb"\ud800 \x00 +2AA- \N{NULL} \0" + b"\xed\xa0\x80\x00\xd8\x00\x7e"
    refusal = ""
    try:
        statement = read(b"date,description,amount\n2025-01-31,Shop" + escapes + b",-3.50\n", encoding=encoding)
    except InvalidInput as error:
        refusal = str(error)
    text = refusal or " ".join([*statement.column("description"), *statement.reasons().values()])
    assert "\0" not in text
    assert text.encode()


def test_what_a_person_says_is_cleaned_before_it_is_used(read: Read) -> None:
    content = "date,description,amount\n2025-01-31,Shop,-3.50\n"
    statement = read(content, account="Jo\ud800int\0", columns={"description": "descrip\udfff\0tion"})
    assert statement.column("account") == ["Joint"]
    with pytest.raises(InvalidInput, match="no such column for the description"):
        read(content, columns={"description": "Wh\ud800at"})


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("", {}),
        ("date,description,amount\n", {"columns": {"date": "secret"}}),
        ("date,description,amount\n", {"columns": {"secret": "date"}}),
        ("secret,description,amount\nnever,A,1\n", {}),
        ("secret,description,amount\n2025-01-31,A,secret\n", {}),
        ("date,description,amount\n03/04/2025,A,1.00\n", {}),
        ("date,description,amount\n31/04/2025,A,1.00\n04/31/2025,A,1.00\n03/13/2025,A,1\n13/03/2025,A,1\n", {}),
        ("date,description,amount\n2025-01-31,A,4.321\n", {}),
        ('date,description,amount\n2025-01-31,A,"4.321,00"\n2025-01-31,A,"4,321.00"\n', {}),
        ("date,description,amount\n", {"encoding": "secret"}),
        ("date,description,amount\n", {"delimiter": "secret"}),
        ("date,description,amount\n", {"decimal": "secret"}),
        ("date,description,amount\n", {"spending": "secret"}),
        ("date,description,amount\n", {"date_format": "secret"}),
    ],
)
def test_a_refusal_repeats_no_cell_and_nothing_that_was_said(read: Read, content: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        read(content, **options)
    assert not re.search("secret|321|03/04|/13|13/", str(refusal.value))


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "latin-1"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_accents_survive_every_encoding_and_line_end(read: Read, encoding: str, line_end: str) -> None:
    content = "Datum;Beschreibung;Betrag\n2025-01-31;Café Müller Größe;-3,50\n2025-02-01;Bäcker;-2,00\n"
    statement = read(content.replace("\n", line_end).encode(encoding))
    assert statement.column("description") == ["Café Müller Größe", "Bäcker"]
    assert statement.column("line") == [2, 3]


def test_cyrillic_is_told_from_western_text(read: Read) -> None:
    lines = "".join(f"2025-01-{day:02d};Магазин продуктов на улице Ленина;-3,5{day % 10}\n" for day in range(1, 29))
    statement = read(f"Дата;Описание;Amount\n{lines}".encode("cp1251"))
    assert statement.column("description")[0] == "Магазин продуктов на улице Ленина"
    assert any("--encoding" in warning for warning in statement.layout.warnings)


def test_gzip_is_known_by_its_content(read: Read) -> None:
    assert read(gzip.compress(DIALECTS["plain"].encode())).amounts() == ["-3.50", "1000.00"]


def test_a_gzip_that_unpacks_to_more_than_is_read_is_refused(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    content = DIALECTS["plain"].encode()
    monkeypatch.setattr(source, "MOST_UNPACKED_BYTES", len(content))
    assert read(gzip.compress(content)).amounts() == ["-3.50", "1000.00"]
    with pytest.raises(TooLarge, match="split it"):
        read(gzip.compress(content + b"\n" * (100 << 20)))
    # What is stored as it is cannot grow.
    assert read(content + b"\n" * 100).amounts() == ["-3.50", "1000.00"]


def test_a_truncated_gzip_is_refused(read: Read) -> None:
    with pytest.raises(InvalidInput, match="cut short"):
        read(gzip.compress(DIALECTS["plain"].encode() * 99)[:-20])


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04rest of a workbook", "Excel"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "Excel"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
        (b"<table><tr><td>1</td></tr></table>", "web page"),
        (b'{"transactions": []}', "JSON"),
        (b'<?xml version="1.0"?><Document xmlns="camt.053"/>', "XML"),
        (b":20:STARTUMS\r\n:25:100/200\r\n", "MT940"),
        (bytes(range(32)) * 9, "not a text file"),
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"just words\nand more words\n", "no columns"),
    ],
)
def test_what_is_no_statement_is_refused_with_its_kind(read: Read, content: bytes, kind: str) -> None:
    with pytest.raises(InvalidInput, match=kind):
        read(content)


def test_bad_records_are_rejected_with_line_and_reason_and_good_ones_kept(read: Read) -> None:
    statement = read(
        "Date,Description,Amount\n"
        "31/01/2025,ok,1.00\n"
        "31/02/2025,day,1.00\n"
        "01/02/2025,amount,12,3.4\n"
        '01/02/2025,amount,"12,3.4"\n'
        "01/02/2025,amount,\n"
        "\n"
        ",date,1.00\n"
        "01/02/2025,,1.00\n"
        "01/02/2025,short\n"
        "Total\n"
        "01/02/1850,old,1.00\n"
        "01/02/2025,fraction,1.005\n"
        "01/02/2025,zeros,1.5000\n"
        "01/02/2025,large,12345678901234567.00\n"
        f"01/02/2025,{'x' * 200_000},1.00\n"
        f"{'y' * 60},long,1.00\n"
    )
    assert statement.column("description") == ["ok", "zeros"]
    assert statement.amounts() == ["1.00", "1.50"]
    reasons = statement.reasons()
    assert {line: reason for line, reason in reasons.items() if line < 17} == {
        3: "date '31/02/2025' is not a calendar date",
        4: "4 columns where the header has 3",
        5: "amount '12,3.4' is not a number",
        6: "no amount",
        8: "no date",
        9: "no description",
        10: "2 columns where the header has 3",
        11: "1 column where the header has 3",
        12: "date '01/02/1850' lies outside 1900 to 2200",
        13: "amount '1.005' has more than 2 decimals",
        15: "amount '12345678901234567.00' has more than 16 digits before the decimals",
        16: "a field is longer than 131072 characters",
    }
    assert reasons[17] == f"date '{'y' * 40}…' is not a date that fits dmy"


def test_a_quote_that_is_never_closed_costs_one_record(read: Read) -> None:
    lines = [f"2025-01-{day:02d},Shop {day},-{day}.00" for day in range(1, 29)]
    lines[9] = '2025-01-10,"Shop 10,-10.00'
    statement = read("date,description,amount\n" + "\n".join(lines) + "\n")
    assert statement.reasons() == {11: "a quote that is opened here is not closed"}
    assert len(statement.rows) == 27


def test_two_stray_quotes_never_join_two_payments(read: Read) -> None:
    statement = read(
        'date,description,amount\n2025-01-01,"TV 42,-1.00\n2025-01-02,"TV 43,-2.00\n2025-01-03,Radio,-3.00\n'
    )
    assert sorted(statement.reasons()) == [2, 3]
    assert statement.amounts() == ["-3.00"]


def test_quoted_line_breaks_and_doubled_quotes_are_kept(read: Read) -> None:
    statement = read(
        'date,description,amount\n2025-01-01,"He said ""hi""\nand left",-1.00\n2025-01-02,"Bar" & Grill,-2.00\n'
    )
    assert statement.column("description") == ['He said "hi"\nand left', "Bar & Grill"]
    assert statement.column("line") == [2, 4]


def test_nul_bytes_never_reach_the_rows(read: Read) -> None:
    statement = read("date,description,amount,account\n2025-01-01,Cof\0fee\0,-1.00,A\0\n")
    assert statement.column("description") == ["Coffee"]
    assert statement.column("account") == ["A"]


def test_a_line_of_two_million_characters_is_one_rejection(read: Read) -> None:
    statement = read("date,description,amount\n" + "x" * 2_000_000 + "\n2025-01-01,Coffee,-1.00\n")
    assert list(statement.reasons()) == [2]
    assert statement.column("line") == [3]


def test_thousands_of_columns_are_refused(read: Read) -> None:
    with pytest.raises(InvalidInput, match="5003 columns"):
        read("date,description,amount" + ",x" * 5000 + "\n")


NOTATIONS = ["unicode_escape", "RAW-unicode-escape", "idna", "punycode", "undefined", "utf-7", "U7", "rot13"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spending": "minus"}, "Spending"),
        ({"decimal": ";"}, "decimal mark"),
        ({"date_format": "day first"}, "pattern"),
        ({"date_format": "%d.%m"}, "pattern"),
        ({"delimiter": "::"}, "one character"),
        ({"encoding": "utf-9"}, "encoding"),
        ({"encoding": "base64"}, "encoding"),
        *[({"encoding": name}, "no text encoding") for name in NOTATIONS],
        ({"delimiter": "\ud800"}, "one character"),
        ({"delimiter": "\0"}, "one character"),
        ({"account": "\ud800\0"}, "account name is empty"),
        ({"account": "x" * 201}, "longer than 200 characters"),
        ({"columns": {"when": "date"}}, "no such field"),
        ({"columns": {"date": "Day"}}, "no such column for the date"),
        ({"account": " "}, "account"),
    ],
)
def test_an_option_that_cannot_be_is_refused(read: Read, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read("date,description,amount\n2025-01-01,Coffee,-1.00\n", **options)


def test_options_overrule_what_the_file_says(read: Read) -> None:
    content = "date,booked,description,payee,amount,account\n"
    content += "01/02/2025,03/04/2025,Coffee,Costa,3.50,A\n"
    statement = read(
        content,
        account="Mine",
        columns={"date": "Booked", "description": "payee"},
        date_format="mdy",
        spending="positive",
    )
    assert statement.dates() == ["2025-03-04"]
    assert statement.column("description") == ["Costa"]
    assert statement.column("account") == ["Mine"]
    assert statement.amounts() == ["-3.50"]


def test_only_positive_amounts_bring_a_warning(read: Read) -> None:
    lines = "".join(f"2025-01-{day:02d},Shop,{day}.00\n" for day in range(1, 13))
    warnings = read("date,description,amount\n" + lines).layout.warnings
    assert any("--spending positive" in warning for warning in warnings)
    flipped = read("date,description,amount\n" + lines, spending="positive")
    assert flipped.amounts()[0] == "-1.00"
    assert not any("--spending" in warning for warning in flipped.layout.warnings)


def test_flipping_signs_that_other_columns_give_is_refused(read: Read) -> None:
    with pytest.raises(InvalidInput, match="leave out"):
        read("date,description,debit,credit\n2025-01-01,Coffee,1.00,\n", spending="positive")


@pytest.mark.parametrize("amounts", [("3.50", "1000.00 CR"), ("3.50 DR", "1000.00 CR"), ("3.50 DR", "1000.00")])
def test_flipping_signs_that_marks_give_is_refused(read: Read, amounts: tuple[str, str]) -> None:
    content = f"date,description,amount\n2025-01-31,Coffee,{amounts[0]}\n2025-02-01,Pay,{amounts[1]}\n"
    assert read(content).amounts() == ["-3.50", "1000.00"]
    with pytest.raises(InvalidInput, match="leave out"):
        read(content, spending="positive")


@pytest.mark.parametrize(
    ("amounts", "answered"),
    [
        (["1.00", "2.00 CR", "3.00 DR"], ["-1.00", "2.00", "-3.00"]),
        (["1.00", "-2.00", "3.00 CR"], ["-1.00", "2.00", "3.00"]),
    ],
)
def test_amounts_of_which_only_some_are_marked_are_a_question(
    read: Read, amounts: list[str], answered: list[str]
) -> None:
    content = "date,description,amount\n" + "".join(f"2025-01-31,Shop,{amount}\n" for amount in amounts)
    with pytest.raises(AmbiguousInput, match="marked CR or DR") as refusal:
        read(content)
    assert (refusal.value.option, refusal.value.choices) == ("spending", ("positive",))
    assert read(content, spending="positive").amounts() == answered


def test_values_too_long_for_an_index_are_rejected_by_name(read: Read) -> None:
    wide = "date,description,amount,account,category,transaction id,type\n"
    rows = [
        ("d" * 1000, "a" * 200, "c" * 200, "i" * 200, "t" * 200),
        ("d" * 1001, "a", "c", "i", "t"),
        ("€" * 666, "a", "c", "i", "t"),
        ("€" * 667, "a", "c", "i", "t"),
        ("d", "a" * 201, "c", "i", "t"),
        ("d", "a", "c" * 201, "i", "t"),
        ("d", "a", "c", "i" * 201, "t"),
        ("d", "a", "c", "i", "t" * 201),
    ]
    statement = read(
        wide + "".join(f"2025-01-31,{text},-1.00,{','.join(others)}\n" for text, *others in rows), delimiter=","
    )
    assert statement.column("record") == [1, 3]
    assert list(statement.reasons().values()) == [
        "description is longer than 1,000 characters",
        "description is longer than 2,000 bytes of UTF-8",
        "account is longer than 200 characters",
        "category is longer than 200 characters",
        "external_id is longer than 200 characters",
        "channel_hint is longer than 200 characters",
    ]


def test_both_a_debit_and_a_credit_are_rejected(read: Read) -> None:
    statement = read(
        "date,description,debit,credit\n"
        "2025-01-01,A,1.00,2.00\n2025-01-02,B,,\n2025-01-03,C,0.00,\n2025-01-04,D,x,\n2025-01-05,E,-4.00,\n2025-01-06,F,4.00,\n"
    )
    assert statement.reasons() == {2: "both a debit and a credit", 3: "no amount", 5: "debit 'x' is not a number"}
    assert statement.amounts() == ["0.00", "4.00", "-4.00"]


def test_an_indicator_that_says_nothing_is_rejected(read: Read) -> None:
    statement = read(
        "date,description,dr/cr,amount\n"
        "2025-01-01,A,DR,1.00\n2025-01-02,B,?,1.00\n2025-01-03,C,,1.00\n2025-01-04,D,CR,-1.00\n2025-01-04,D,CR,2.00\n"
    )
    assert statement.amounts() == ["-1.00", "2.00"]
    assert statement.reasons() == {
        3: "debit or credit mark '?' is neither debit nor credit",
        4: "no debit or credit mark",
        5: "amount '-1.00' has a minus although another column says debit or credit",
    }


def test_an_indicator_beside_signed_amounts_changes_nothing(read: Read) -> None:
    statement = read(
        "Details,Posting Date,Description,Amount,Type\n"
        "DEBIT,2025-01-01,A,-1.00,DEBIT\nCREDIT,2025-01-02,B,2.00,CREDIT\n"
    )
    assert statement.amounts() == ["-1.00", "2.00"]


def test_progress_ends_at_the_size_of_the_stored_file(tmp_path: Path) -> None:
    path = tmp_path / "statement.csv"
    path.write_bytes(gzip.compress(DIALECTS["plain"].encode()))
    seen: list[int] = []
    inspect_statement(path, StatementOptions(), progress=seen.append)
    assert seen[-1] == path.stat().st_size


def test_a_running_balance_without_a_name_is_not_the_amount(read: Read) -> None:
    up = "31/01/2025,Coffee,-3.50,96.50\n01/02/2025,Pay,1000.00,1096.50\n02/02/2025,Tea,-6.50,1090.00\n"
    down = "".join(f"{line}\n" for line in reversed((up + "03/02/2025,Rent,-90.00,1000.00").splitlines()))
    assert read(up).amounts() == ["-3.50", "1000.00", "-6.50"]
    assert read(down).amounts() == ["-90.00", "-6.50", "1000.00", "-3.50"]


def test_a_question_offers_the_columns_that_may_be_meant(read: Read) -> None:
    with pytest.raises(AmbiguousInput) as refusal:
        read("2025-01-01,2025-01-02,Coffee,-1.00\n2025-01-03,2025-01-05,Tea,-1.50\n")
    assert refusal.value.option == "columns"
    assert refusal.value.choices == ("date=column 1", "date=column 2")
