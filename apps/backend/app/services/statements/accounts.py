"""Account numbers that can be told apart without being shown."""

from __future__ import annotations

import hashlib

_SHOWN = 4
_DIGEST = 6  # hex digits


def mask_account(number: str, bank: str = "") -> str:
    """An account number of which only the last four characters can be read: "xxxx0100-7f3a9c".

    What follows is the start of a hash of bank and number, so that accounts that end alike stay apart. It
    hides the number from a glance, not from someone who tries all numbers of that bank.

    Args:
        number: The account number; spaces and punctuation do not count.
        bank: The bank's own number, where the file names it.

    Returns:
        The masked number; a number of up to four characters and no bank is left as it is.
    """
    bare, bare_bank = _bare(number), _bare(bank)
    if not bare or (len(bare) <= _SHOWN and not bare_bank):
        return bare
    digest = hashlib.sha256(f"{bare_bank}:{bare}".encode()).hexdigest()[:_DIGEST]
    return f"xxxx{bare[-_SHOWN:]}-{digest}" if len(bare) > _SHOWN else f"{bare}-{digest}"


def _bare(number: str) -> str:
    return "".join(character for character in number if character.isalnum())
