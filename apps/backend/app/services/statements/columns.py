"""Column names of bank exports in seven languages, and how they are recognised."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Fields of a row and, best first, the names that banks give to their columns: English, German, French,
# Spanish, Italian, Dutch, Portuguese. Names are compared without case, accents and punctuation, and without
# a currency ("Betrag (EUR)"). Fields that come first choose first.
_NAMES = {
    "date": (
        "date | transaction date | trans date | txn date | date of transaction | booking date | booked date | "
        "posting date | posted date | post date | date posted | completed date | operation date | "
        "started date | datum | buchungstag | buchungsdatum | buchung | belegdatum | transaktionsdatum | "
        "kaufdatum | umsatzdatum | date operation | date d operation | date de l operation | "
        "date de comptabilisation | date comptable | date transaction | fecha | fecha operacion | "
        "fecha de operacion | fecha contable | f operacion | data | data operazione | data contabile | "
        "data movimento | data registrazione | boekdatum | boekingsdatum | transactiedatum | "
        "verrichtingsdatum | data do movimento | data da operacao | data lancamento | data do lancamento | "
        "data mov | timestamp | datetime | date time | value date | valuta | valutadatum | wertstellung | "
        "wertstellungstag | date de valeur | date valeur | fecha valor | data valuta | rentedatum | "
        "data valor"
    ),
    "posted_at": (
        "time | transaction time | posted at | created at | timestamp | datetime | date time | uhrzeit | "
        "zeit | buchungszeit | heure | hora | ora | tijd | tijdstip"
    ),
    "amount": (
        "amount | transaction amount | amount of transaction | billing amount | net amount | value | sum | "
        "betrag | umsatz | buchungsbetrag | umsatz in | montant | montant de l operation | "
        "montant operation | importe | cantidad | monto | importo | ammontare | bedrag | transactiebedrag | "
        "montante | valor | quantia | importancia"
    ),
    "debit": (
        "debit | debit amount | debits | withdrawal | withdrawals | withdrawal amount | withdrawal amt | "
        "paid out | money out | payments out | out | charge | charges | soll | ausgang | ausgabe | ausgaben | "
        "belastung | debet | af | depense | depenses | debito | cargo | cargos | gasto | gastos | dare | "
        "uscite | uscita | addebiti | addebito | debitos | saida | saidas | a debito"
    ),
    "credit": (
        "credit | credit amount | credits | deposit | deposits | deposit amount | deposit amt | paid in | "
        "money in | payments in | in | haben | eingang | einnahme | einnahmen | gutschrift | bij | recette | "
        "recettes | credito | abono | abonos | ingreso | ingresos | avere | entrate | entrata | accrediti | "
        "accredito | creditos | entrada | entradas | a credito"
    ),
    "indicator": (
        "debit credit | credit debit | debit or credit | dr cr | cr dr | d c | c d | dc | drcr | crdr | "
        "credit debit indicator | debit credit indicator | cdt dbt ind | sign | soll haben | s h | "
        "soll haben kennzeichen | sens | debit credit flag | af bij | bij af | debet credit | dare avere | "
        "segno | signo | debe haber | debito credito | sinal | vorzeichen"
    ),
    "currency": (
        "currency | currency code | ccy | cur | curr | transaction currency | wahrung | waehrung | devise | "
        "monnaie | moneda | divisa | valuta | munt | muntsoort | moeda"
    ),
    "description": (
        "description | transaction description | details | transaction details | narrative | narration | "
        "particulars | transaction | transaction narrative | beschreibung | "
        "buchungstext und verwendungszweck | umsatztext | libelle | libelle operation | "
        "libelle de l operation | descripcion | concepto | descrizione | descrizione operazione | "
        "causale descrizione | omschrijving | naam omschrijving | beschrijving | descricao | historico | "
        "descritivo"
    ),
    "merchant": (
        "merchant | merchant name | payee | payee name | name | counterparty | counterparty name | "
        "counter party | beneficiary | payer payee | recipient | vendor | supplier | auftraggeber empfanger | "
        "auftraggeber beguenstigter | beguenstigter zahlungspflichtiger | begunstigter zahlungspflichtiger | "
        "zahlungsempfanger | empfanger | empfaenger | beguenstigter auftraggeber | zahlungsbeteiligter | "
        "name zahlungsbeteiligter | zahlungspflichtiger | beneficiaire | tiers | commercant | nom | "
        "beneficiario | comercio | establecimiento | esercente | controparte | tegenpartij | "
        "naam tegenpartij | begunstigde | naam | comerciante | estabelecimento | destinatario"
    ),
    "memo": (
        "memo | notes | note | reference | remarks | comment | purpose | verwendungszweck | "
        "zahlungsreferenz | communication | commentaire | motif | observaciones | mas datos | causale | "
        "mededelingen | mededeling | observacoes"
    ),
    "account": (
        "account | account number | account no | account name | account id | acct | iban | card | "
        "card number | card no | konto | kontonummer | auftragskonto | iban auftragskonto | "
        "bezeichnung auftragskonto | karte | kartennummer | compte | numero de compte | n compte | carte | "
        "cuenta | numero de cuenta | tarjeta | conto | numero conto | carta | rekening | rekeningnummer | "
        "iban bban | eigen rekening | conta | cartao"
    ),
    "mcc": "mcc | mcc code | merchant category code | sic | merchant mcc | mcc sic code",
    "channel_hint": (
        "channel | type | transaction type | trans type | payment type | payment method | method | "
        "transaction code | buchungstext | umsatzart | buchungsart | vorgang | umsatztyp | type d operation | "
        "type operation | type de transaction | tipo | tipo de movimiento | tipo operazione | tipologia | "
        "mutatiesoort | soort | transactiesoort | tipo de movimento | tipo de operacao"
    ),
    "category": "category | kategorie | categorie | categoria | rubrique | rubrik",
    "external_id": (
        "transaction id | txn id | id | transaction reference | reference number | reference no | unique id | "
        "fitid | external id | transaktions id | transaktionsnummer | umsatz id | identifiant | "
        "id transaction | id transaccion | id transazione | transactiereferentie | volgnr | id transacao | "
        "reference"
    ),
}
SYNONYMS = {field: tuple(names.split(" | ")) for field, names in _NAMES.items()}
FIELDS = tuple(SYNONYMS)

# A column with one of these words is a running balance, never an amount.
_BALANCE_WORDS = frozenset(("balance", "balances", "saldo", "salden", "solde", "kontostand", "guthaben", "running"))
_CURRENCY_WORDS = frozenset(
    (
        "in",
        "en",
        "eur",
        "euro",
        "euros",
        "usd",
        "gbp",
        "chf",
        "sek",
        "nok",
        "dkk",
        "pln",
        "czk",
        "cad",
        "aud",
        "brl",
        "inr",
    )
)
_CODE_IN_NAME = re.compile(r"\b(EUR|USD|GBP|CHF|SEK|NOK|DKK|PLN|CZK|CAD|AUD|BRL|INR)\b")


def normalise(name: str) -> str:
    """A column name without case, accents and punctuation: "Währung (€)" gives "wahrung"."""
    folded = unicodedata.normalize("NFKD", name.casefold())
    bare = "".join(character for character in folded if not unicodedata.combining(character))
    return " ".join(re.findall(r"[^\W_]+", bare))


def _without_currency(name: str) -> str:
    words = name.split()
    while len(words) > 1 and words[-1] in _CURRENCY_WORDS:
        words.pop()
    return " ".join(words)


def is_balance(name: str) -> bool:
    """Whether the name is that of a running balance."""
    return not _BALANCE_WORDS.isdisjoint(normalise(name).split())


def currency_in(name: str) -> str | None:
    """The currency code in a name such as "Betrag (EUR)"."""
    found = _CODE_IN_NAME.search(name)
    return found.group(1) if found else None


def recognise(names: Sequence[str]) -> dict[str, str]:
    """Fields whose columns the names alone give away.

    Args:
        names: Column names of one file, all different.

    Returns:
        Field to column name; a column serves one field only.
    """
    exact: dict[str, str] = {}
    for name in names:
        exact.setdefault(normalise(name), name)
    loose: dict[str, str] = {}
    for key, name in exact.items():
        loose.setdefault(_without_currency(key), name)
    found: dict[str, str] = {}
    for field, synonyms in SYNONYMS.items():
        candidates = (known[word] for known in (exact, loose) for word in synonyms if word in known)
        column = next((name for name in candidates if name not in found.values()), None)
        if column is not None:
            found[field] = column
    return found


def override(names: Sequence[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Match the column names that a person gave with those of the file, without regard to case.

    Returns:
        Field to column name as the file writes it, for the wanted fields whose column exists.
    """
    by_folded = {name.strip().casefold(): name for name in reversed(names)}
    matched = {field: by_folded.get(column.strip().casefold()) for field, column in wanted.items()}
    return {field: column for field, column in matched.items() if column is not None}
