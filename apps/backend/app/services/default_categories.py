"""The category set that an installation shares: groups and details as people speak of their money.

A category's key is for good, and built-in knowledge refers to it; its name may be worded better in a later version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.services.category_map import WORDS_IN_USE, WORDS_OFFERED, read_category_map, write_category_map

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

    A category that a later version leaves out stays, for labels may say it. Where one is worded anew, the old word is
    shown under the new name to those who have the shared set and use it, as if they had renamed it; unless the old word
    is another category's name now, for then it says that one.

    Args:
        connection: Of a role that row-level security does not bind, in a transaction; the caller commits.
    """
    stored = _stored(connection)
    if all(stored.get(category.key) == (category.name, category.group_name) for category in DEFAULT_CATEGORIES):
        return
    # Two processes that start at once take turns; requests still read.
    connection.execute(text("LOCK TABLE categories IN SHARE ROW EXCLUSIVE MODE"))
    stored = _stored(connection)
    reworded = {
        stored[category.key][0]: category.name
        for category in DEFAULT_CATEGORIES
        if category.key in stored and stored[category.key][0] != category.name
    }
    # Names may pass from one category to another, so first all that change make way; a key has a dot and no space.
    connection.execute(
        text("UPDATE categories SET name = 'reworded ' || key WHERE user_id IS NULL AND name = ANY (:names)"),
        {"names": list(reworded)},
    )
    # One that was left out gives its name to one that has it now: the same word, with a key that means something.
    connection.execute(
        text(
            "DELETE FROM categories WHERE user_id IS NULL AND name = ANY (:names) AND coalesce(key, '') <> ALL (:keys)"
        ),
        {"keys": list(_NAMES), "names": list(_NAMES.values())},
    )
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
        {
            "keys": list(_NAMES),
            "names": list(_NAMES.values()),
            "group_names": [category.group_name for category in DEFAULT_CATEGORIES],
        },
    )
    gone = {old: new for old, new in reworded.items() if old not in _KEYS}
    if gone:
        _carry_words(connection, gone)


def _stored(connection: Connection) -> dict[str, tuple[str, str]]:
    rows = connection.execute(text("SELECT key, name, group_name FROM categories WHERE key IS NOT NULL"))
    return {row.key: (row.name, row.group_name) for row in rows}


def _carry_words(connection: Connection, reworded: dict[str, str]) -> None:
    """Show old words under their new names to the users on the shared set who use them or have renamed them."""
    affected = connection.execute(
        text(f"""
            SELECT DISTINCT users.id AS user_id, used.word
            FROM (
                {WORDS_IN_USE} UNION ALL {WORDS_OFFERED}
                UNION ALL
                SELECT category_names.user_id, category_names.name FROM category_names WHERE valid_to IS NULL
                UNION ALL
                SELECT category_names.user_id, category_names.shown_as FROM category_names WHERE valid_to IS NULL
            ) AS used
            INNER JOIN users ON users.id = used.user_id AND NOT users.own_categories
            WHERE used.word = ANY (:words)
                AND NOT EXISTS (
                    SELECT FROM categories WHERE categories.user_id = users.id AND categories.name = used.word
                )
            ORDER BY users.id, used.word
        """),  # noqa: S608 -- the fragments are constants
        {"words": list(reworded)},
    ).all()
    with Session(bind=connection) as session:
        for row in affected:
            session.execute(text("SELECT FROM users WHERE id = :id FOR NO KEY UPDATE"), {"id": row.user_id})
            _carry_word(session, row.user_id, row.word, reworded[row.word])


def _carry_word(session: Session, user_id: int, old: str, new: str) -> None:
    renames = read_category_map(session, user_id)
    shown = renames.shown
    if new in shown and shown[new] not in {old, shown.get(old)}:
        # The user calls something else by the new name: the old word stays a category, theirs.
        session.execute(
            text("""
                INSERT INTO categories (user_id, name, group_name)
                SELECT :user_id, :old, group_name FROM categories WHERE user_id IS NULL AND name = :new
            """),
            {"user_id": user_id, "old": old, "new": new},
        )
        return
    into = renames.parents.get(old)
    if shown.get(old) == shown.get(new, new):
        return
    # A rename of the user's is one of the new name now. Each step has its moment, so each can be taken back.
    if into is not None:
        renames.undo(old)
        write_category_map(session, user_id, renames)
    renames.merge(old, new)
    write_category_map(session, user_id, renames)
    if into is not None:
        renames.merge(new, into)
        write_category_map(session, user_id, renames)
