"""Who sells what in the sample: invented shops, a few chains everybody knows, and how a household spends."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Style(StrEnum):
    """How a shop's name reaches the statement."""

    PLAIN = "plain"
    NUMBERED = "numbered"
    """with the number of the store"""
    MARKETPLACE = "marketplace"
    """with a fresh order code each time, and no town"""
    ONLINE = "online"


class Offer(NamedTuple):
    """One kind of thing that a shop sells."""

    category: str
    pence: int
    mcc: str


class Shop(NamedTuple):
    """A chain or a shop that several towns have; several offers make one name mean several categories."""

    name: str
    style: Style
    offers: tuple[Offer, ...]


PROCESSORS = ("", "SQ *", "SUMUP *", "PAYPAL *")
"""Who takes the card for a small shop, as it stands before the name; the first is the shop's own bank."""


class Habit(NamedTuple):
    """How a household spends in one category.

    Attributes:
        share: Part of all purchases, in thousandths.
        months: Weight of January to December.
        weekend: Weight of a Saturday or Sunday; a weekday has 100.
        opens: First hour of the day.
        hours: Length of the trading day.
        accounts: Weights of current, joint and card: who pays for it.
        price_step: Prices are multiples of this many pence …
        price_less: … less this many: 100 and 1 give 7.99.
        local_pence: Typical amount in shops of the town.
        local_mccs: Merchant category codes of shops of the town.
        local_kinds: Last words of their names.
        processors: Weights of `PROCESSORS` among them.
    """

    share: int
    months: tuple[int, ...]
    weekend: int
    opens: int
    hours: int
    accounts: tuple[int, int, int]
    price_step: int
    price_less: int
    local_pence: int
    local_mccs: tuple[str, ...]
    local_kinds: tuple[str, ...]
    processors: tuple[int, int, int, int] = (50, 25, 13, 12)


_EVEN = (10,) * 12
_SUMMER = (5, 6, 8, 11, 13, 16, 24, 26, 12, 8, 5, 8)
_WINTER = (14, 12, 11, 9, 8, 7, 7, 7, 9, 11, 13, 14)
_CHRISTMAS = (6, 7, 8, 8, 9, 9, 9, 9, 9, 10, 18, 30)

HABITS: dict[str, Habit] = {
    "Groceries": Habit(
        240, (10, 10, 10, 10, 10, 10, 9, 9, 10, 10, 11, 14), 130, 7, 14, (30, 55, 15), 1, 0,
        2100, ("5411", "5422", "5451", "5462"), ("Bakery", "Butchers", "Farm Shop", "Greengrocers", "Fishmongers"),
        (60, 20, 20, 0),
    ),
    "Eating out": Habit(
        270, (8, 9, 10, 10, 11, 11, 12, 11, 10, 10, 10, 13), 170, 8, 14, (50, 15, 35), 5, 0,
        1150, ("5812", "5813", "5814"), ("Coffee", "Kitchen", "Tea Rooms", "Tavern", "Pizzeria", "Noodle Bar"),
    ),
    "Transport": Habit(
        130, (10, 11, 11, 10, 10, 10, 8, 7, 11, 11, 11, 8), 50, 6, 15, (65, 5, 30), 10, 0,
        720, ("4121", "4111", "7523"), ("Taxis", "Car Park", "Coaches", "Cycle Hire"),
    ),
    "Fuel": Habit(
        40, (9, 9, 10, 10, 10, 10, 12, 12, 10, 10, 9, 10), 120, 6, 15, (30, 50, 20), 1, 0,
        4600, ("5541", "5542"), ("Garage", "Filling Station"), (1, 0, 0, 0),
    ),
    "Shopping": Habit(
        170, _CHRISTMAS, 150, 9, 12, (30, 20, 50), 100, 1,
        2600, ("5699", "5712", "5942", "5945", "5999"),
        ("Books", "Gifts", "Hardware", "Home", "Outfitters", "Records", "Garden Centre"),
    ),
    "Health": Habit(
        50, _WINTER, 70, 9, 9, (50, 35, 15), 5, 0,
        1900, ("5912", "8021", "8099"), ("Pharmacy", "Dental Care", "Physio", "Opticians"),
    ),
    "Travel": Habit(
        20, _SUMMER, 120, 8, 14, (10, 25, 65), 100, 0,
        9800, ("7011", "4722", "7033"), ("Guest House", "Hotel", "Holiday Cottages", "Camping"),
    ),
    "Children": Habit(
        40, (9, 9, 10, 10, 10, 10, 8, 14, 13, 9, 11, 14), 120, 8, 11, (15, 65, 20), 50, 1,
        1500, ("5641", "7999", "8299"), ("Soft Play", "Swim School", "Toys", "Dance Academy"),
    ),
    "Cash": Habit(
        40, _EVEN, 130, 8, 14, (75, 25, 0), 1000, 0,
        4000, ("6011",), ("ATM", "Cashpoint"), (1, 0, 0, 0),
    ),
}  # fmt: skip

SHOPS = (
    Shop("Tesco Stores", Style.NUMBERED, (
        Offer("Groceries", 3100, "5411"), Offer("Fuel", 5200, "5541"), Offer("Shopping", 1900, "5411"),
        Offer("Cash", 4000, "6011"))),
    Shop("Brightway Supermarket", Style.NUMBERED, (
        Offer("Groceries", 4200, "5411"), Offer("Fuel", 5600, "5542"), Offer("Health", 650, "5411"))),
    Shop("Harvest Lane", Style.NUMBERED, (Offer("Groceries", 1400, "5411"), Offer("Eating out", 420, "5411"))),
    Shop("Corner Basket", Style.NUMBERED, (Offer("Groceries", 780, "5499"), Offer("Cash", 2000, "6011"))),
    Shop("Pantry Direct", Style.ONLINE, (Offer("Groceries", 6800, "5411"),)),
    Shop("Łakocie Deli", Style.PLAIN, (Offer("Groceries", 1250, "5411"), Offer("Eating out", 890, "5812"))),
    Shop("Bean Street Coffee", Style.NUMBERED, (Offer("Eating out", 365, "5814"),)),
    Shop("Pasty Junction", Style.NUMBERED, (Offer("Eating out", 480, "5814"),)),
    Shop("Café Noisette", Style.PLAIN, (Offer("Eating out", 620, "5812"),)),
    Shop("Crêperie du Pont", Style.PLAIN, (Offer("Eating out", 1450, "5812"),)),
    Shop("Señor Burrito", Style.NUMBERED, (Offer("Eating out", 990, "5814"),)),
    Shop("Golden Wok", Style.PLAIN, (Offer("Eating out", 2350, "5812"),)),
    Shop("Bäckerei Kornblume", Style.PLAIN, (Offer("Eating out", 540, "5462"), Offer("Groceries", 760, "5462"))),
    Shop("RideNow", Style.ONLINE, (Offer("Transport", 1150, "4121"), Offer("Eating out", 2400, "5812"))),
    Shop("TfL Travel Charge", Style.ONLINE, (Offer("Transport", 560, "4111"),)),
    Shop("Crosspennine Rail", Style.PLAIN, (Offer("Transport", 1480, "4112"), Offer("Travel", 7600, "4112"))),
    Shop("Valley Buses", Style.ONLINE, (Offer("Transport", 310, "4131"),)),
    Shop("ParkPoint", Style.NUMBERED, (Offer("Transport", 360, "7523"),)),
    Shop("Amber Fuels", Style.NUMBERED, (
        Offer("Fuel", 5100, "5542"), Offer("Groceries", 640, "5541"), Offer("Eating out", 390, "5541"))),
    Shop("Moorgate Services", Style.NUMBERED, (Offer("Fuel", 6100, "5541"), Offer("Eating out", 1080, "5814"))),
    Shop("Amazon", Style.MARKETPLACE, (
        Offer("Shopping", 1900, "5942"), Offer("Groceries", 1300, "5942"), Offer("Children", 1700, "5942"),
        Offer("Health", 900, "5942"))),
    Shop("Homebarn", Style.NUMBERED, (Offer("Shopping", 3900, "5200"), Offer("Children", 2200, "5200"))),
    Shop("Threadline", Style.NUMBERED, (Offer("Shopping", 3400, "5651"), Offer("Children", 1600, "5651"))),
    Shop("Volt & Wire", Style.ONLINE, (Offer("Shopping", 8900, "5732"),)),
    Shop("Paperbark Books", Style.NUMBERED, (Offer("Shopping", 1250, "5942"),)),
    Shop("Wellbridge Pharmacy", Style.NUMBERED, (
        Offer("Health", 990, "5912"), Offer("Shopping", 1500, "5912"), Offer("Children", 1200, "5912"))),
    Shop("Clearview Opticians", Style.PLAIN, (Offer("Health", 7800, "8043"),)),
    Shop("Bluefin Airways", Style.ONLINE, (Offer("Travel", 14500, "4511"),)),
    Shop("Staywell Hotels", Style.NUMBERED, (Offer("Travel", 10900, "7011"), Offer("Eating out", 2700, "7011"))),
    Shop("Pensão Estrela", Style.PLAIN, (Offer("Travel", 8200, "7011"),)),
    Shop("Tinybear", Style.NUMBERED, (Offer("Children", 1900, "5641"),)),
    Shop("School Gateway", Style.ONLINE, (Offer("Children", 2300, "8211"),)),
    Shop("Cash Machine", Style.NUMBERED, (Offer("Cash", 5000, "6011"),)),
    Shop("Post Office Counter", Style.NUMBERED, (Offer("Cash", 8000, "6011"), Offer("Shopping", 750, "9402"))),
)  # fmt: skip

FIRST_WORDS = (
    "Amber", "Anchor", "Autumn", "Beacon", "Birch", "Blue", "Brass", "Bramble", "Bridge", "Calder", "Canal",
    "Cedar", "Clover", "Copper", "Corner", "Crimson", "Dovecote", "Eastgate", "Elm", "Ember", "Fern", "Flint",
    "Foxglove", "Garnet", "Granary", "Green", "Harbour", "Hawthorn", "Heather", "Highfield", "Indigo", "Iron",
    "Ivy", "Juniper", "Kestrel", "Kiln", "Lantern", "Larch", "Linden", "Lockside", "Maple", "Market", "Meadow",
    "Millgate", "Moorland", "Northgate", "Oak", "Old", "Orchard", "Pebble", "Quarry", "Raven", "River", "Rowan",
    "Saffron", "Silver", "Slate", "Station", "Thistle", "Westgate", "Willow",
)  # fmt: skip

SECOND_WORDS = (
    "Acorn", "Anvil", "Arch", "Barrel", "Basin", "Bell", "Boat", "Bough", "Brook", "Candle", "Chimney", "Cloud",
    "Compass", "Crown", "Drum", "Feather", "Fox", "Gate", "Hare", "Hearth", "Hill", "Kettle", "Key", "Ladder",
    "Leaf", "Loom", "Moon", "Nest", "Otter", "Owl", "Pine", "Plough", "Quill", "Shuttle", "Stone", "Swan", "Tree",
    "Wheel", "Wren",
)  # fmt: skip

TOWNS = (
    "Halifax", "Leeds", "Hebden Bridge", "Bradford", "Huddersfield", "Todmorden", "Manchester", "Rochdale",
    "Sheffield", "Barnsley", "Wakefield", "York", "Harrogate", "Skipton", "Keighley", "Burnley", "Preston",
    "Lancaster", "Kendal", "Carlisle", "Durham", "Newcastle", "Sunderland", "Whitby", "Scarborough", "Hull",
    "Lincoln", "Nottingham", "Derby", "Leicester", "Stoke on Trent", "Chester", "Shrewsbury", "Worcester",
)  # fmt: skip
