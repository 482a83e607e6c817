"""Which default category a merchant category code (ISO 18245) stands for, as data.

Codes that say little ("miscellaneous", "business services") are kept apart: they speak only where the words of the
description are silent. Codes that say nothing about what was bought (quasi-cash, 6012) are left out.
"""

from __future__ import annotations

from typing import Final

# Blocks that the card schemes hand out to single companies, one code for each.
_RANGES: Final = (
    (3000, 3299, "travel.flights"),
    (3300, 3499, "travel.car_hire"),
    (3500, 3999, "travel.lodging"),
)

_CODES: Final[dict[str, str]] = {
    "food.groceries": "5300 5399 5411",
    "food.specialist": "5422 5441 5451 5462 5499",
    "food.alcohol": "0743 0744 5715 5921",
    "food.eating_out": "5811 5812",
    "food.fast_food": "5814",
    "food.bars": "5813",
    "housing.rent": "6513",
    "housing.repairs": "1520 1711 1731 1740 1750 1761 1771 1799 7342 7393 7622 7623 7629 7641 7692 7699",
    "housing.diy": "5039 5072 5074 5198 5200 5211 5231 5251",
    "housing.furniture": "2842 5021 5712 5713 5714 5718 5719 5950 5996 5998",
    "housing.appliances": "5722",
    "housing.garden": "0780 5193 5261",
    "housing.cleaning": "7217 7349",
    "housing.removals": "4214 4225",
    "utilities.energy": "4900 5983",
    "utilities.mobile": "4812 4813 4814 4815 4821",
    "utilities.broadband": "4816",
    "utilities.television": "4899",
    "transport.fuel": "5172 5541 5542",
    "transport.charging": "5552",
    "transport.parking": "7523",
    "transport.tolls": "4784",
    "transport.taxi": "4121",
    "transport.local": "4111 4131 4789",
    "transport.rail": "4011 4112",
    "transport.car_purchase": "5271 5511 5521 5551 5561 5571 5592 5598 5599",
    "transport.car_service": "5013 5531 5532 5533 7531 7534 7535 7538 7542 7549 8675",
    "transport.bicycle": "5940",
    "travel.flights": "4511 4582",
    "travel.lodging": "7011 7012 7032 7033",
    "travel.car_hire": "7512 7513 7519",
    "travel.ferries": "4411 4457 4468",
    "travel.holidays": "4722 4723 4733 5962",
    "shopping.clothes": "5131 5137 5611 5621 5631 5641 5651 5681 5691 5697 5698 5699 7296",
    "shopping.shoes": "5139 5661 7251",
    "shopping.jewellery": "5094 5944 5948 7631",
    "shopping.electronics": "5045 5065 5732 5946 5997 7379",
    "shopping.books": "2741 5192 5942 5994",
    "shopping.stationery": "5044 5111 5943 5978",
    "shopping.gifts": "5947",
    "shopping.flowers": "5992",
    "shopping.hobbies": "5733 5945 5949 5970 5971 5972",
    "shopping.sports": "5655 5941",
    "shopping.general": "5309 5310 5311 5331",
    "shopping.online": "5262",
    "shopping.second_hand": "5832 5931 5932 5933 5935 5937",
    "shopping.tobacco": "5993",
    "health.pharmacy": "5047 5122 5912 5975 5976",
    "health.doctor": "8011 8031 8041 8049 8099",
    "health.dentist": "8021",
    "health.optician": "8042 8043 8044",
    "health.hospital": "4119 8050 8062 8071",
    "care.hair": "7230",
    "care.cosmetics": "5977",
    "care.laundry": "7210 7211 7216",
    "care.spa": "7297 7298",
    "care.services": "7221 7261 7273 7277 7395",
    "leisure.cinema": "7829 7832 7841",
    "leisure.shows": "7922 7929",
    "leisure.attractions": "7991 7996 7998",
    "leisure.sport": "7911 7932 7933 7941 7992 7997",
    "leisure.gambling": "7800 7801 7802 7995 9406",
    "leisure.games": "5816 7993 7994",
    "subscriptions.streaming": "5735 5815",
    "subscriptions.software": "5734 5817 7372",
    "subscriptions.other": "5968",
    "family.childcare": "8351",
    "family.school": "8211",
    "family.university": "8220",
    "family.courses": "8241 8244 8249 8299",
    "family.pets": "5995",
    "family.vet": "0742",
    "insurance.other": "5960 6300 6381 6399",
    "finance.loans": "7321 7322",
    "finance.advice": "7276 8931",
    "finance.legal": "8111 9211 9223",
    "finance.income_tax": "9311",
    "finance.fines": "9222",
    "finance.government_fees": "9399 9400 9405",
    "giving.charity": "8398",
    "giving.religion": "5973 8661",
    "leisure.clubs": "8641 8651 8699",
    "transfers.people": "4829 6532 6533 6536 6537 6538",
    "transfers.investments": "6211",
    "transfers.cash": "6010 6011",
    "work.postage": "4215 9402",
    "work.services": "2791 5046 5051 5085 5169 5966 5967 7311 7332 7333 7338 7361",
    "work.professional": "7392 8734 8911 8912",
}

_VAGUE_CODES: Final[dict[str, str]] = {
    "shopping.general": "5099 5199 5963 5999 7278",
    "shopping.online": "5961 5964 5965 5969",
    "subscriptions.software": "5818 7375",
    "housing.repairs": "7394",
    "leisure.attractions": "7999",
    "care.services": "7280 7295 7299",
    "food.specialist": "0763",
    "travel.lodging": "7013",
    "work.professional": "7339 7399 8999",
}


def _by_code(codes: dict[str, str]) -> dict[str, str]:
    return {code: key for key, listed in codes.items() for code in listed.split()}


VAGUE_MCC_KEYS: Final[dict[str, str]] = _by_code(_VAGUE_CODES)
MCC_KEYS: Final[dict[str, str]] = {
    **{f"{code:04d}": key for first, last, key in _RANGES for code in range(first, last + 1)},
    **_by_code(_CODES),
}
