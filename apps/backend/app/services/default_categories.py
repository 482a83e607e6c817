"""The category set that an installation shares: groups and details as people speak of their money.

A category's key is for good, and built-in knowledge refers to it; its name may be worded better in a later version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

_GROUPS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "income": ("Income", {
        "salary": "Salary",
        "pension": "Pension income",
        "benefits": "State benefits",
        "interest": "Interest received",
        "dividends": "Dividends",
        "rental": "Rental income",
        "sales": "Self-employment and sales",
        "tax_refund": "Tax refunds",
        "refunds": "Refunds and cashback",
        "gifts": "Gifts and inheritances received",
        "other": "Other income",
    }),
    "food": ("Food and drink", {
        "groceries": "Groceries",
        "specialist": "Bakers, butchers and delis",
        "eating_out": "Eating out",
        "fast_food": "Takeaways and fast food",
        "coffee": "Coffee and snacks",
        "bars": "Pubs and bars",
        "alcohol": "Wine, beer and spirits",
    }),
    "housing": ("Home", {
        "rent": "Rent",
        "mortgage": "Mortgage",
        "council_tax": "Council and property tax",
        "service_charge": "Ground rent and service charges",
        "repairs": "Home repairs and security",
        "diy": "DIY and hardware",
        "furniture": "Furniture and homeware",
        "appliances": "Household appliances",
        "garden": "Garden",
        "cleaning": "Cleaning",
        "removals": "Removals and storage",
    }),
    "utilities": ("Bills", {
        "energy": "Electricity, gas and heating",
        "water": "Water",
        "broadband": "Broadband and landline",
        "mobile": "Mobile phone",
        "television": "Television",
        "waste": "Waste and recycling",
    }),
    "transport": ("Transport", {
        "fuel": "Petrol and diesel",
        "charging": "Electric car charging",
        "parking": "Parking",
        "tolls": "Tolls and road charges",
        "car_service": "Car repairs and care",
        "car_tax": "Car tax and inspection",
        "car_purchase": "Buying or leasing a car",
        "taxi": "Taxis",
        "rail": "Trains",
        "local": "Buses and local transport",
        "bicycle": "Bicycle",
    }),
    "travel": ("Travel", {
        "flights": "Flights",
        "lodging": "Hotels and lodging",
        "car_hire": "Car hire",
        "ferries": "Ferries and cruises",
        "holidays": "Holidays and tours",
    }),
    "shopping": ("Shopping", {
        "clothes": "Clothes",
        "shoes": "Shoes",
        "jewellery": "Jewellery and accessories",
        "electronics": "Electronics and computers",
        "books": "Books and magazines",
        "stationery": "Stationery",
        "gifts": "Presents",
        "flowers": "Flowers",
        "hobbies": "Toys, hobbies and crafts",
        "sports": "Sports equipment",
        "second_hand": "Second-hand and antiques",
        "tobacco": "Tobacco and vaping",
        "online": "Online shopping",
        "general": "General shopping",
    }),
    "health": ("Health", {
        "pharmacy": "Pharmacy and medical supplies",
        "doctor": "Doctor",
        "dentist": "Dentist",
        "optician": "Optician",
        "hospital": "Hospitals and care",
        "therapy": "Therapy",
    }),
    "care": ("Personal care", {
        "hair": "Hair and beauty",
        "cosmetics": "Cosmetics and toiletries",
        "laundry": "Laundry and dry cleaning",
        "spa": "Spa and massage",
        "services": "Personal services",
    }),
    "leisure": ("Leisure", {
        "sport": "Gym and sport",
        "cinema": "Cinema",
        "shows": "Theatre and concerts",
        "attractions": "Museums and attractions",
        "games": "Video games",
        "gambling": "Lottery and betting",
        "clubs": "Clubs and memberships",
    }),
    "subscriptions": ("Subscriptions", {
        "streaming": "Music and video streaming",
        "software": "Software and online services",
        "other": "Other subscriptions",
    }),
    "family": ("Family and education", {
        "childcare": "Childcare",
        "child_support": "Child support and pocket money",
        "school": "School",
        "university": "University",
        "courses": "Courses and training",
        "pets": "Pets",
        "vet": "Vet",
    }),
    "insurance": ("Insurance", {
        "home": "Home insurance",
        "vehicle": "Car insurance",
        "health": "Health insurance",
        "life": "Life insurance",
        "travel": "Travel insurance",
        "other": "Other insurance",
    }),
    "finance": ("Money and taxes", {
        "bank_fees": "Bank fees",
        "interest_paid": "Interest paid",
        "loans": "Loans and debt",
        "credit_card": "Credit card payments",
        "income_tax": "Taxes",
        "government_fees": "Government fees",
        "fines": "Fines",
        "advice": "Accounting and tax advice",
        "legal": "Legal fees",
    }),
    "giving": ("Giving", {
        "charity": "Charity",
        "religion": "Religious giving",
    }),
    "transfers": ("Moving money", {
        "own": "Between own accounts",
        "savings": "Savings",
        "investments": "Investments",
        "pension": "Pension contributions",
        "people": "Payments to people",
        "cash": "Cash",
        "other": "Other transfers",
    }),
    "work": ("Work", {
        "postage": "Postage and couriers",
        "services": "Business services and supplies",
        "professional": "Professional services",
    }),
}  # fmt: skip


@dataclass(frozen=True)
class DefaultCategory:
    """A category of the shared set.

    Attributes:
        key: What it is called for good: "group.detail".
        name: What people see, and what a label says.
        group_name: The heading that it is listed under.
    """

    key: str
    name: str
    group_name: str


DEFAULT_CATEGORIES: Final = tuple(
    DefaultCategory(f"{group}.{detail}", name, group_name)
    for group, (group_name, details) in _GROUPS.items()
    for detail, name in details.items()
)

_NAMES: Final = {category.key: category.name for category in DEFAULT_CATEGORIES}
_KEYS: Final = {category.name: category.key for category in DEFAULT_CATEGORIES}


def default_name_of(key: str) -> str:
    """Return the name of the shared set's category with this key.

    Raises:
        KeyError: There is none.
    """
    return _NAMES[key]


def key_of(name: str) -> str | None:
    """Return the key of the shared set's category with exactly this name, None if there is none."""
    return _KEYS.get(name)


def seed_default_categories(connection: Connection) -> None:
    """Bring the shared set of a database to DEFAULT_CATEGORIES; write nothing where it says the same already.

    A category that a later version leaves out stays, for labels may say it.

    Args:
        connection: Of a role that row-level security does not bind; the caller commits.
    """
    wanted = {
        "keys": list(_NAMES),
        "names": list(_NAMES.values()),
        "group_names": [category.group_name for category in DEFAULT_CATEGORIES],
    }
    connection.execute(
        text("""
            INSERT INTO categories (key, name, group_name)
            SELECT wanted.key, wanted.name, wanted.group_name
            FROM unnest(
                CAST(:keys AS text[]), CAST(:names AS text[]), CAST(:group_names AS text[])
            ) AS wanted (key, name, group_name)
            LEFT JOIN categories AS stored ON stored.key = wanted.key
            WHERE (stored.name, stored.group_name) IS DISTINCT FROM (wanted.name, wanted.group_name)
            ON CONFLICT (key) DO UPDATE SET name = excluded.name, group_name = excluded.group_name
        """),
        wanted,
    )
