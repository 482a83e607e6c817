"""Every word list and pattern the feature kernel knows, as data.

Changing anything here changes features: raise `FEATURE_VERSION` in `features.py` with it.

All patterns are read by two regex engines (Rust's through Polars, and Python's `re` in the benchmark), so they
hold to what both understand alike. They look at text that is lower case with its accents folded and, from
`NORMALISED` onwards in the pipeline, at tokens separated by single spaces. A word list never matches inside a
token: COACH is not ach, WEBSTER is not web.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _any_of(words: Iterable[str]) -> str:
    # Longest first: Python and Rust both take the first alternative that fits.
    return "(?:" + "|".join(sorted(set(words), key=lambda word: (-len(word), word))) + ")"


# ── Folding: what Unicode decomposition leaves standing ────────────────────────────────────────────────────
LETTERS_WITHOUT_DECOMPOSITION: Final = {
    "ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "ħ": "h",
    "\u0131": "i",  # dotless i
    "\u2019": "'",  # typographic apostrophe
}  # fmt: skip
# Only the Latin, Greek and Cyrillic accents: the vowel signs of other scripts are letters to their readers.
COMBINING_ACCENTS: Final = r"[\u0300-\u036f]"
# Beyond ASCII, whatever is not a letter, a sign that belongs to one, or a digit separates words.
SEPARATORS_BEYOND_ASCII: Final = r"[^\x00-\x7f\p{Alphabetic}\p{M}\p{Nd}]+"

# ── Normalising: separators, store numbers and order codes all become one space ────────────────────────────
# Where a bank drops the asterisk, Amazon's order code sticks to these words.
_GLUED_SERVICES: Final = ("amazon prime", "amazon music", "prime video", "kindle svcs", "amzn digital")
# "Sainsbury's" is one word.
REWRITES: Final = {"'": ""} | {service: f"{service} " for service in _GLUED_SERVICES}

_SEPARATOR: Final = r"[\x00-\x2f\x3a-\x60\x7b-\x7f]"
_SEPARATOR_NOT_SPACE: Final = r"[\x00-\x1f\x21-\x2f\x3a-\x60\x7b-\x7f]"

# Words that only say that a number follows.
_NUMBERED: Final = _any_of(["store", "stores", "superstore", "superstores", "str", "branch", "unit", "no", "nr", "ref"])

_MONTH: Final = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?)"
)
_MIXED_CODE: Final = "(?:[a-z0-9]{3,}[0-9][a-z]+[0-9][a-z0-9]*|[a-z0-9]*[0-9][a-z]+[0-9][a-z0-9]{3,})"
# Shapes of a whole token, never the first one of a description: the first names the shop ("24 Seven", "4imprint").
_CODES: Final = (
    rf"(?:on )?[0-9]{{1,2}} ?{_MONTH}\b(?: (?:20)?[0-9]{{2}}\b)?",  # on 03 Mar: the day of the visit
    r"(?:uk|us|de|fr|it|es|nl|se|pl|ca|eu)\*[a-z0-9]{9}\b",  # Amazon's order codes, also those without a digit
    rf"{_NUMBERED}[ .#-]*[0-9]{{2,}}\b",                 # STORE 2617, BRANCH #12
    r"o\*?[0-9]{2}-[0-9]{5}-[0-9]{5}\b",                 # an eBay order
    r"trip [a-z0-9]{5}\b(?: help\.uber(?:\.com)?)?",     # a ride
    r"e0[0-9][0-9a-z]{7}\b",                             # a Microsoft invoice
    r"[0-9]{2,}\b",                                      # 0047, 60 779; a single digit stays: Super 8, Pier 1
    r"[a-z]{1,2}[0-9]{3,}\b",                            # GB0000
    rf"{_MIXED_CODE}\b",                                 # M01116P44: digits, letters, digits, six or more in all
)  # fmt: skip
_CODE: Final = "(?:" + "|".join(_CODES) + ")"

CORPORATE_SUFFIXES: Final = _words("""
    ltd limited limite limit plc llp inc incorporated llc corp corporation co company gmbh ag kg ug sarl
    sas sasu srl bv nv ab oy oyj aps pty pte sro doo
""")
# Those that also end shop names as words ("Sweets and Co") wait for the merchant's guard, below.
_CERTAIN_CORPORATE: Final = _any_of(CORPORATE_SUFFIXES - {"co", "company", "ab", "limit", "limite"})

# What stands before the first word, and a number with its sign there.
_LEADING: Final = rf"^(?:{_SEPARATOR}*#[0-9]+\b{_SEPARATOR}*|{_SEPARATOR}+)"
# Punctuation and codes, each with the spaces before it. `#123` comes first, in the very pass that takes `#` away, so
# it cannot lose its sign before its number. The last number is one that the bank glued to a word: INN44010775.
_GAP: Final = rf" *#[0-9]+\b| *{_SEPARATOR_NOT_SPACE}{_CODE}?| +{_CODE}|[0-9]{{5,}}\b"

# Everything that is not a word. A single space between words does not match, which is what keeps this fast: most
# descriptions have nothing else.
NOISE: Final = rf"{_LEADING}|(?:{_GAP}| +{_CERTAIN_CORPORATE}\b)+ *$|(?:{_GAP})+ *|  +"

# ── Tokens ────────────────────────────────────────────────────────────────────────────────────────────────
MAX_TOKENS: Final = 20
STOP_WORDS: Final = _words("""
    a an and at by for from in of on or the to with und der die das de la le les el et y www http https
    com co
""")

# ── Merchants: what stands before the name ────────────────────────────────────────────────────────────────
# As they read once normalised: `SQ *`, `ZETTLE_*` and `WWW.` have become "sq", "zettle" and "www".
PROCESSOR_PREFIXES: Final = (
    "sq", "gosq", "paypal", "pypl", "pp", "sumup", "iz", "izettle", "zettle", "zlr", "amz", "tst", "sp", "google",
    "cko", "stripe", "klarna", "wp", "worldpay", "eb", "skr", "skrill", "stk", "nochex", "gocardless", "crv",
    "www", "http", "https",
)  # fmt: skip
SCHEME_NOISE: Final = (
    "card payment to", "card payment", "card purchase", "card transaction", "debit card purchase",
    "debit card payment", "debit card", "credit card purchase", "visa debit purchase", "visa debit", "visa purchase",
    "visa", "mastercard", "maestro", "interac", "girocard", "checkcard", "check card purchase", "pos purchase",
    "pos debit", "pos", "point of sale", "purchase authorized on", "recurring payment", "recurring card payment",
    "contactless payment", "contactless", "direct debit payment to", "direct debit to", "direct debit",
    "standing order to", "standing order", "bill payment to", "bill payment", "faster payment to", "faster payment",
    "online payment to", "payment to", "purchase at", "purchase", "sepa lastschrift", "kartenzahlung", "paiement cb",
    "achat cb", "carte",
)  # fmt: skip
LEADING_NOISE: Final = rf"^(?:{_any_of([*PROCESSOR_PREFIXES, *SCHEME_NOISE])} )+"

# ── Merchants: what stands behind the name ────────────────────────────────────────────────────────────────
# After a store number or an order code come the place or the remains of an address: 0047 OAKLND, *MB9UW3QE4 AM.
PLACE_AFTER_NUMBER: Final = rf"[ #*.](?:[0-9]{{4,}}|0[0-9]+|{_MIXED_CODE}) *((?: [a-z]+){{1,2}}) *$"

# No town that is also an everyday word or shop (Reading, Bath, Sandwich, Rugby, Wells, Deal, Orange, Mobile).
TOWNS: Final = _words("""
    aberdeen barnsley basingstoke belfast birmingham blackburn blackpool bolton bournemouth bradford
    brighton bristol burnley cambridge canterbury cardiff carlisle chelmsford cheltenham chester
    chesterfield colchester coventry crewe croydon darlington derby doncaster dudley dundee durham
    edinburgh edinburg exeter gateshead glasgow gloucester grimsby guildford halifax harrogate hereford
    huddersfield hull inverness ipswich keighley lancaster leeds leicester lichfield lincoln liverpool
    london luton maidstone manchester middlesbrough newcastle northampton norwich nottingham oldham
    oxford peterborough plymouth poole portsmouth preston rochdale rotherham salford scarborough
    sheffield shrewsbury solihull southampton southend stafford stevenage stockport stoke sunderland
    swansea swindon telford wakefield walsall warrington warwick watford wigan winchester wolverhampton
    worcester worthing wrexham york dublin cork galway limerick amsterdam antwerpen barcelona berlin
    bruxelles copenhagen frankfurt geneva hamburg helsinki koeln koln lisboa lisbon luxembourg lyon
    madrid marseille milan milano muenchen munchen munich oslo paris praha rotterdam roma stockholm
    vienna warszawa wien zurich atlanta austin baltimore boston brooklyn charlotte chicago cincinnati
    cleveland columbus dallas denver detroit houston jacksonville memphis miami milwaukee minneapolis
    nashville oakland orlando philadelphia pittsburgh portland sacramento seattle tampa toronto
    vancouver montreal calgary ottawa sydney melbourne brisbane perth auckland singapore
""") | {"milton keynes", "new york", "los angeles", "san francisco", "san diego", "san jose", "las vegas", "hong kong"}
COUNTRIES: Final = _words("gb gbr uk usa irl ie deu fra esp ita nld swe dnk lu")  # not US, which ends names: Toys R Us
# A state on its own only where its two letters are no word or abbreviation of another kind (not IN, OR, ME, CO, LA).
_CERTAIN_STATES: Final = _words("az ca fl ga il ky mn nc nh nj nm nv ny tn tx wa wv")
_ALL_STATES: Final = _CERTAIN_STATES | _words("""
    al ak ar co ct de hi ia id in ks la ma md me mi mo ms mt ne oh nd ok or pa ri sc sd ut va vt wi wy
""")
WEB_TAILS: Final = (
    "com", "co uk", "co u", "org uk", "gov uk", "ac uk", "ltd uk", "net", "org", "amazon co uk", "amzn com bill",
    "help uber", "help uber com",
)  # fmt: skip
TRAILING_NOISE: Final = (
    rf"(?: (?:{_any_of(TOWNS)} {_any_of(_ALL_STATES)}|"
    + _any_of([*TOWNS, *COUNTRIES, *_CERTAIN_STATES, *WEB_TAILS, *CORPORATE_SUFFIXES])
    + "))+$"
)

# What is left after stripping must still name somebody. These words alone do not ("University of", "Parking").
_KINDS_OF_PLACE: Final = _words("""
    ads airport arena bank bar bill cafe car cards centre center church city cloud club coffee
    college council court direct domains eats fees fuel garage garden gas gov group help hospital hotel
    hotels house inn library market museum music office one online park parking parks pay payment
    payments pharmacy pizza play post prime pub purchase restaurant school sc service services shop shops station
    storage store stores superstore supermarket taxi taxis theatre travel trip uni university visit
    water web workspace zoo
""")
_JOINING_WORDS: Final = _words("""
    of the and at in on for to a an by new st de la le du von sur upon near
""")
NAMES_NOBODY: Final = rf"^(?:..?|{_any_of(_KINDS_OF_PLACE)})?$|(?:^| ){_any_of(_JOINING_WORDS)}$"

# ── Channels ──────────────────────────────────────────────────────────────────────────────────────────────
# Phrases of whole tokens. Where several apply the first channel in this order is taken: the named networks, then
# what the bank itself does, then how money moves, then how a card was used, and plain "card" last.
CHANNEL_PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "zelle": ("zelle",),
    "venmo": ("venmo",),
    "ach": ("ach",),
    "direct_debit": ("direct debit", "direct debits", "directdebit", "dd", "ddr", "lastschrift"),
    "standing_order": ("standing order", "stnd order", "std order"),
    "fee": (
        "atm fee", "cash fee", "cash advance fee", "transaction fee", "service fee", "service charge", "overdraft fee",
        "account fee", "monthly fee", "late fee", "wire fee", "exchange fee", "maintenance fee", "bank charge",
        "bank charges",
    ),
    "interest": ("interest",),
    "atm": ("atm", "cash machine", "cash withdrawal", "cash withdrawl", "cashpoint", "cash advance"),
    "deposit": ("deposit", "deposits", "direct dep", "dir dep", "directdep", "payroll"),
    "cheque": ("cheque", "cheques", "chq", "check paid"),
    "transfer": ("transfer", "xfer", "tfr", "trf", "faster payment", "faster payments", "bank giro credit"),
    "contactless": ("contactless", "apple pay", "google pay"),
    "online": ("online", "web", "www", "http", "https", "internet", "ecommerce", "e commerce"),
    "pos": ("pos", "in store"),
    "card": (
        "card payment", "card purchase", "card transaction", "debit card", "credit card", "check card", "checkcard",
        "visa debit", "visa purchase", "mastercard", "maestro", "kartenzahlung",
    ),
}  # fmt: skip

# The bank's own type, when it names a channel: OFX's codes, British statement codes, and words in full.
# DEBIT, CREDIT, PAYMENT, OTHER say which way the money went, not how, and are left out.
CHANNEL_HINTS: Final[dict[str, str]] = {
    "atm": "atm", "cash": "atm", "cpt": "atm", "cash withdrawal": "atm", "cashpoint": "atm",
    "pos": "pos", "point of sale": "pos", "in store": "pos",
    "ach": "ach", "zelle": "zelle", "venmo": "venmo",
    "dep": "deposit", "deposit": "deposit", "directdep": "deposit", "direct deposit": "deposit",
    "directdebit": "direct_debit", "direct debit": "direct_debit", "dd": "direct_debit",
    "repeatpmt": "standing_order", "standing order": "standing_order", "so": "standing_order", "sto": "standing_order",
    "check": "cheque", "cheque": "cheque", "chq": "cheque",
    "xfer": "transfer", "transfer": "transfer", "tfr": "transfer", "fpi": "transfer", "fpo": "transfer",
    "bgc": "transfer", "bac": "transfer", "bacs": "transfer", "faster payment": "transfer",
    "faster payments": "transfer", "bank transfer": "transfer", "wire": "transfer",
    "fee": "fee", "fees": "fee", "srvchg": "fee", "charge": "fee", "chg": "fee",
    "int": "interest", "interest": "interest",
    ")))": "contactless", "contactless": "contactless",
    "online": "online", "web": "online", "internet": "online", "ecommerce": "online",
    "card": "card", "card payment": "card", "card purchase": "card", "debit card": "card", "credit card": "card",
    "deb": "card", "vis": "card", "visa": "card", "mastercard": "card",
}  # fmt: skip
HINT_SEPARATORS: Final = r"[\s_-]+"

# ── Subscriptions ─────────────────────────────────────────────────────────────────────────────────────────
SUBSCRIPTION_PHRASES: Final = (
    "netflix", "spotify", "hulu", "disney plus", "disneyplus", "disney p", "hbo", "hbomax", "hbo max",
    "paramount plus", "peacock tv", "crunchyroll", "dazn", "now tv", "nowtv", "britbox", "sky digital", "tvlicensing",
    "tv licence", "tv licensing", "amazon prime", "amzn prime", "prime video", "prime membership", "apple music",
    "apple com bill", "itunes com bill", "icloud", "youtube premium", "youtubepremium", "youtube music", "audible",
    "kindle unltd", "kindle unlimited", "deezer", "tidal", "patreon", "substack", "medium com", "twitch", "nytimes",
    "economist", "adobe", "dropbox", "github", "openai", "chatgpt", "canva", "mailchimp", "evernote", "notion",
    "linkedin premium", "office365", "microsoft subscription", "xbox game pass", "playstation plus",
    "playstationnetwork", "nordvpn", "expressvpn", "1password", "gym", "puregym", "gymgroup", "anytime fitness",
    "planet fitness", "fitness first", "nuffield health", "david lloyd", "crossfit", "peloton", "strava", "headspace",
    "duolingo", "tinder", "hellofresh", "gousto", "graze", "membership", "memberships", "subscription",
    "subscriptions", "subscr", "recurring", "monthly plan",
)  # fmt: skip
