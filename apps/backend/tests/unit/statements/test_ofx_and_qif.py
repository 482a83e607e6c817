"""OFX, QFX and QIF: formats that say themselves which value is which."""

from __future__ import annotations

from decimal import Decimal
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from ofxtools.Parser import OFXTree

from app.errors import AmbiguousInput, InvalidInput
from app.services.statements import StatementOptions, inspect_statement, preview
from app.services.statements.accounts import mask_account

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Read = Callable[..., Any]

SGML = """OFXHEADER:100
DATA:OFXSGML
VERSION:102
SECURITY:NONE
ENCODING:USASCII
CHARSET:1252
COMPRESSION:NONE
OLDFILEUID:NONE
NEWFILEUID:NONE

<OFX><BANKMSGSRSV1><STMTTRNRS><STMTRS><CURDEF>USD
<BANKACCTFROM><BANKID>1<ACCTID>000987654321<ACCTTYPE>CHECKING</BANKACCTFROM>
<BANKTRANLIST><DTSTART>20250101<DTEND>20250131
<STMTTRN><TRNTYPE>POS<DTPOSTED>20250104153045.123[-5:EST]<TRNAMT>-12.50<FITID>1<NAME>CAF\xc9 &amp; CO
<MEMO>Caf\xe9 &amp; Co Boston<SIC>5814</STMTTRN>
<STMTTRN><TRNTYPE>CREDIT<DTPOSTED>20250105120000<TRNAMT>+1000<FITID>2<NAME>Pay<MEMO>January</STMTTRN>
<STMTTRN><TRNTYPE>ATM<DTPOSTED>20250106<TRNAMT>-20.00<FITID>3<NAME>Cash
<BANKACCTTO><ACCTID>5</BANKACCTTO><ORIGCURRENCY><CURRATE>1.1<CURSYM>CAD</ORIGCURRENCY></STMTTRN>
</BANKTRANLIST><LEDGERBAL><BALAMT>9.00<DTASOF>20250131</LEDGERBAL></STMTRS></STMTTRNRS></BANKMSGSRSV1></OFX>
"""

XML = """<?xml version="1.0" encoding="UTF-8"?>
<?OFX OFXHEADER="200" VERSION="211" SECURITY="NONE" OLDFILEUID="NONE" NEWFILEUID="NONE"?>
<OFX><CREDITCARDMSGSRSV1><CCSTMTTRNRS><CCSTMTRS><CURDEF>EUR</CURDEF>
<CCACCTFROM><ACCTID>4111</ACCTID></CCACCTFROM><BANKTRANLIST>
<STMTTRN>
  <TRNTYPE>DEBIT</TRNTYPE><DTPOSTED>20250104000000</DTPOSTED><TRNAMT>-12,50</TRNAMT><FITID>a</FITID>
  <NAME><![CDATA[Fish & <Chips>]]></NAME><MEMO></MEMO><CURRENCY><CURSYM>GBP</CURSYM></CURRENCY>
</STMTTRN>
</BANKTRANLIST></CCSTMTRS></CCSTMTTRNRS></CREDITCARDMSGSRSV1></OFX>
"""


def test_an_sgml_statement_is_read(read: Read) -> None:
    statement = read(SGML.encode("cp1252"))
    assert statement.dates() == ["2025-01-04", "2025-01-05", "2025-01-06"]
    assert [at and at.isoformat() for at in statement.column("posted_at")] == ["2025-01-04T15:30:45", None, None]
    assert statement.amounts() == ["-12.50", "1000.00", "-20.00"]
    assert statement.column("description") == ["Café & Co Boston", "Pay January", "Cash"]
    assert statement.column("account") == ["xxxx4321-" + sha256(b"1:000987654321").hexdigest()[:6]] * 3
    assert statement.column("currency") == ["USD"] * 3
    assert statement.column("mcc") == ["5814", None, None]
    assert statement.column("channel_hint") == ["POS", "CREDIT", "ATM"]
    assert statement.column("external_id") == ["1", "2", "3"]
    assert statement.column("line") == [14, 16, 17]


def test_an_xml_statement_is_read(read: Read) -> None:
    row = read(XML).rows.row(0, named=True)
    assert (str(row["amount"]), row["description"], row["currency"]) == ("-12.50", "Fish & <Chips>", "GBP")
    assert (row["posted_at"], row["account"], row["line"]) == (None, "4111", 5)


def test_a_well_formed_file_holds_what_the_ofxtools_parser_finds(read: Read) -> None:
    tree = OFXTree()
    tree.parse(BytesIO(SGML.encode("cp1252")))
    found = [
        (node.findtext("FITID"), node.findtext("TRNAMT"), node.findtext("TRNTYPE")) for node in tree.iter("STMTTRN")
    ]
    rows = read(SGML.encode("cp1252")).rows
    assert [(fitid, Decimal(amount or 0), kind) for fitid, amount, kind in found] == [
        (row["external_id"], row["amount"], row["channel_hint"]) for row in rows.iter_rows(named=True)
    ]


def _statements(*owners: str) -> str:
    transaction = "<BANKTRANLIST><STMTTRN><DTPOSTED>20250104<TRNAMT>-1.00<NAME>Shop</STMTTRN></BANKTRANLIST>"
    return "<OFX>" + "".join(f"<STMTRS>{owner}{transaction}</STMTRS>" for owner in owners) + "</OFX>"


def test_accounts_of_one_file_that_end_alike_stay_apart(read: Read) -> None:
    accounts = read(
        _statements(
            "<BANKACCTFROM><BANKID>1<ACCTID>11110100</BANKACCTFROM>",
            "<BANKACCTFROM><BANKID>1<ACCTID>22220100</BANKACCTFROM>",
            "<BANKACCTFROM><BANKID>2<ACCTID>11110100</BANKACCTFROM>",
            "<CCACCTFROM><ACCTID>11110100</CCACCTFROM>",
        )
    ).column("account")
    numbers = (b"1:11110100", b"1:22220100", b"2:11110100", b":11110100")
    assert accounts == [f"xxxx0100-{sha256(number).hexdigest()[:6]}" for number in numbers]


def test_short_account_numbers_of_two_banks_stay_apart(read: Read) -> None:
    one, other = read(
        _statements(
            "<BANKACCTFROM><BANKID>1<ACCTID>42</BANKACCTFROM>", "<BANKACCTFROM><BANKID>2<ACCTID>42</BANKACCTFROM>"
        )
    ).column("account")
    assert one.startswith("42-")
    assert other.startswith("42-")
    assert one != other


def test_an_account_number_is_masked_alike_however_it_is_spaced() -> None:
    assert mask_account(" DE00-1234 5678\n") == mask_account("DE0012345678")


def test_records_on_one_line_are_told_apart_by_their_number(read: Read) -> None:
    posted = ["20250104", "soon", "20250105", "20250106", "never", *["20250107"] * 9]
    statement = read(
        "<OFX><ACCTID>1</ACCTID>"
        + "".join(f"<STMTTRN><DTPOSTED>{day}<TRNAMT>-1.00<NAME>Shop</STMTTRN>" for day in posted)
        + "</OFX>"
    )
    assert set(statement.column("line")) == set(statement.rejected["line"]) == {1}
    assert statement.column("record") == [1, 3, 4, *range(6, 15)]
    assert statement.rejected["record"].to_list() == [2, 5]


def test_an_empty_element_that_is_not_closed_takes_nothing_from_its_neighbours(read: Read) -> None:
    statement = read(SGML.replace("<NAME>Pay<MEMO>January", "<NAME>Pay<MEMO>").encode("cp1252"))
    assert statement.column("description") == ["Café & Co Boston", "Pay", "Cash"]


def test_a_damaged_transaction_is_rejected_and_the_others_are_kept(read: Read) -> None:
    broken = SGML.replace("<DTPOSTED>20250105120000<TRNAMT>+1000", "<DTPOSTED>soon<TRNAMT>much")
    statement = read(broken.encode("cp1252"))
    assert statement.reasons() == {16: "date 'soon' is not a date"}
    assert statement.column("external_id") == ["1", "3"]


def test_elements_across_the_reading_window_are_whole(read: Read) -> None:
    body = "".join(
        f"<STMTTRN><DTPOSTED>20250104<TRNAMT>-{number}.00<NAME>Shop {number}<MEMO><![CDATA[a<b {number}]]></STMTTRN>"
        for number in range(1, 1200)
    )
    statement = read("<OFX><ACCTID>1234</ACCTID>" + body + "</OFX>")
    assert statement.column("description") == [f"Shop {number} a<b {number}" for number in range(1, 1200)]


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE OFX SYSTEM "http://127.0.0.1/x.dtd">',
    ],
)
def test_a_file_that_declares_entities_is_refused(read: Read, declaration: str) -> None:
    with pytest.raises(InvalidInput, match="entities"):
        read(XML.replace("<OFX>", declaration + "<OFX>"))


def test_naming_columns_of_a_format_without_columns_is_refused(read: Read) -> None:
    with pytest.raises(InvalidInput, match="leave out --columns"):
        read(XML, columns={"date": "DTUSER"})


QIF = """!Option:AutoSwitch
!Account
NSavings
TBank
^
NChecking
TBank
^
!Type:Bank
D1/ 2'25
T-1,234.50
CX
N101
PRent
MJanuary
LHousing:Rent
^
D1/31'25
T500.00
NATM
PCash
L[Savings]
SFood
$-200.00
SFun
$-300.00
^
!Type:Cat
NFood
^
"""


def test_a_qif_file_is_read(read: Read) -> None:
    statement = read(QIF)
    assert statement.dates() == ["2025-01-02", "2025-01-31"]
    assert statement.amounts() == ["-1234.50", "500.00"]
    assert statement.column("description") == ["Rent January", "Cash"]
    assert statement.column("category") == ["Housing:Rent", None]
    assert statement.column("channel_hint") == [None, "ATM"]
    assert statement.column("account") == ["Checking"] * 2
    assert statement.column("line") == [10, 18]


def test_a_qif_file_is_decided_by_the_whole_column_too(read: Read) -> None:
    with pytest.raises(AmbiguousInput, match="--date-format"):
        read(QIF.replace("1/31'25", "1/ 3'25"))


def test_the_last_qif_record_may_lack_its_end(read: Read) -> None:
    assert len(read("!Type:CCard\nD31/01/2025\nT-1.50\nPShop\n^\nD31/01/2025\nT-2.50\nPShop").rows) == 2


def test_the_preview_holds_the_first_rows_and_what_was_rejected_among_them(tmp_path: Path) -> None:
    path = tmp_path / "statement.csv"
    lines = [f"2025-01-{day:02d},Shop,{day}.00" for day in range(1, 29)]
    lines[1] = lines[20] = "soon,Shop,1.00"
    path.write_text("date,description,amount\n" + "\n".join(lines))
    options = StatementOptions()
    shown = preview(path, inspect_statement(path, options), options, limit=5)
    assert shown.rows["line"].to_list() == [2, 4, 5, 6, 7]
    assert shown.rejected["line"].to_list() == [3]


def test_the_preview_of_one_line_holds_no_rejection_behind_its_last_row(tmp_path: Path) -> None:
    path = tmp_path / "statement.ofx"
    posted = ["20250104", "soon", "20250105", "20250106", "never"]
    transactions = (f"<STMTTRN><DTPOSTED>{day}<TRNAMT>-1.00<NAME>Shop</STMTTRN>" for day in posted)
    path.write_text("<OFX>" + "".join(transactions) + "</OFX>")
    options = StatementOptions()
    shown = preview(path, inspect_statement(path, options), options, limit=2)
    assert shown.rows["record"].to_list() == [1, 3]
    assert shown.rejected["record"].to_list() == [2]
