from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ml.features import TRANSACTION_SCHEMA, build_features

unhurried = settings(deadline=None)  # how fast it is, the benchmark says


def merchant(description: str) -> str | None:
    row = (1, dt.date(2024, 1, 29), None, Decimal("-1.00"), description, None, None)
    name: str | None = build_features(pl.DataFrame([row], schema=TRANSACTION_SCHEMA, orient="row"))["merchant"][0]
    return name


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("SQ *BLUE BTL 0047 OAKLND", "blue btl"),
        ("PAYPAL *HALIFAXAGRI", "halifaxagri"),
        ("PP*LEISURE-FORCE.COM", "leisure force"),
        ("SumUp  *Corner Cafe", "corner cafe"),
        ("IZ *PIE SHOP", "pie shop"),
        ("ZETTLE_*JOES CAFE", "joes cafe"),
        ("AMZ*Home Portal", "home portal"),
        ("TST* NOODLE BAR", "noodle bar"),
        ("SP  GLOVE STORE", "glove store"),
        ("GOOGLE *SPOTIFY", "spotify"),
        ("CKO*LOOKFANTASTIC", "lookfantastic"),
        ("WWW.ARGOS.CO.UK", "argos"),
        ("HTTP://WWW.POLYBAGS.CO.UK", "polybags"),
        ("VISA DEBIT PURCHASE SQ *BLUE BTL", "blue btl"),
        ("CARD PAYMENT TO ALDI 60 779", "aldi"),
        ("DIRECT DEBIT PUREGYM LTD", "puregym"),
    ],
)
def test_what_stands_before_the_name_goes(description: str, name: str) -> None:
    assert merchant(description) == name


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("TESCO STORE 2617", "tesco"),
        ("TESCO-STORES 6737", "tesco"),
        ("PREMIER INN44010775", "premier inn"),
        ("AMZN Mktp UK*2K3AB1C90", "amzn mktp"),
        ("AMZN MKTP UK*MB9UW3QE4 AM", "amzn mktp"),
        ("Amazon.co.uk*M24551SH4", "amazon"),
        ("LIDL GB LEEDS", "lidl"),
        ("NANDOS LONDON GBR", "nandos"),
        ("BLUE BTL PORTLAND OR", "blue btl"),
        ("BLUE BTL NEW YORK NY", "blue btl"),
        ("B & Q PLC", "b q"),
        ("W BOYES CO LTD", "w boyes"),
        ("CAFÉ ØRSTED GMBH", "cafe orsted"),
    ],
)
def test_what_stands_behind_the_name_goes(description: str, name: str) -> None:
    assert merchant(description) == name


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("UNIVERSITY OF LEEDS", "university of leeds"),
        ("UNIVERSITY OF YORK", "university of york"),
        ("PARKING LEEDS", "parking leeds"),
        ("SWEETS AND CO", "sweets and co"),
        ("CITY OF SALFORD", "city of salford"),
        ("GOOGLE *ADS4231694470", "google ads"),
        ("SP SERVICES", "sp services"),
        ("LEEDS", "leeds"),
        ("TOYS R US", "toys r us"),
        ("GOV.UK", "gov uk"),
        ("CARD PURCHASE 1234 TESCO", "tesco"),  # the number is the card's: what follows it is no place
        ("SUPER POUND STORE", "super pound store"),
        ("PAYPAL", "paypal"),
        ("POS PURCHASE", "pos purchase"),
        ("24 SEVEN", "24 seven"),
        ("3 MOBILE", "3 mobile"),
        ("Кафе Пушкин", "кафе пушкин"),
    ],
)
def test_a_strip_that_would_merge_different_shops_is_not_made(description: str, name: str) -> None:
    assert merchant(description) == name


@pytest.mark.parametrize("description", ["", "   ", "***", "#123", "0000000000000000"])
def test_there_is_no_merchant_where_the_bank_says_nothing(description: str) -> None:
    assert merchant(description) is None


@unhurried
@given(
    st.lists(
        st.sampled_from(
            ["SQ *", "PAYPAL", "LTD", "CO", "UK", "LEEDS", "0047", "#12", "STORE", "OF", "THE", "GB", "www."]
        )
    )
)
def test_no_combination_of_noise_gives_an_empty_name(words: list[str]) -> None:
    assert merchant(" ".join(words)) != ""
