"""Allowances that several processes share, kept in a small file in memory: nothing waits for a database.

The Generic Cell Rate Algorithm of ITU-T Recommendation I.371 (Traffic control and congestion control in B-ISDN),
annex A, in its form of virtual scheduling: of each key one number is kept, the moment at which its next event would be
due if events came evenly. An event may come before that by as much as a full allowance takes to refill.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from app.config import get_settings
from app.errors import TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Iterator

AllowanceKind = Literal["requests", "login by name", "login by address"]

FILE_NAME: Final = "allowances"
# So many of each kind: a due moment that is far off for one kind is near for another that refills more slowly.
SLOTS: Final = 1 << 16
_KINDS: Final[tuple[AllowanceKind, ...]] = get_args(AllowanceKind)
_SALT_BYTES: Final = 16
_SLOT = struct.Struct("d")
_FILE_BYTES: Final = _SALT_BYTES + len(_KINDS) * SLOTS * _SLOT.size


class Allowances:
    """Slots of a file, each the due moment of the keys that fall into it, in seconds of the monotonic clock.

    Each kind of allowance has a region of its own, in which all allowances take equally long to refill.

    Attributes:
        salt: What keys are hashed with, so that nobody can choose one that falls into another's slot.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._slots = mmap.mmap(descriptor, _FILE_BYTES)
        self._turn = threading.Lock()
        self.salt = self._slots[:_SALT_BYTES]

    def close(self) -> None:
        """Let go of the file; other processes keep it."""
        self._slots.close()
        os.close(self._descriptor)

    def take(self, kind: AllowanceKind, key: str, *, events: int, seconds: float) -> float:
        """Count an event against its key's allowance.

        Args:
            kind: Of what the allowance is.
            key: Who acts; keys of a kind that fall into one slot share an allowance, which among few keys is rare.
            events: How many a full allowance is.
            seconds: How long an empty allowance takes to be full again.

        Returns:
            0 when the event was allowed, else the seconds until one would be.
        """
        interval = seconds / events
        with self._slot_of(kind, key) as offset:
            now = time.monotonic()
            (due,) = _SLOT.unpack_from(self._slots, offset)
            # The clock starts anew with the machine, and the file may be older.
            due = now if due > now + seconds + 1 else max(due, now)
            early = due - now - (seconds - interval)
            if early > 0:
                return float(early)
            _SLOT.pack_into(self._slots, offset, due + interval)
            return 0.0

    @contextmanager
    def _slot_of(self, kind: AllowanceKind, key: str) -> Iterator[int]:
        digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8, key=self.salt).digest()
        slot = _KINDS.index(kind) * SLOTS + int.from_bytes(digest) % SLOTS
        offset = _SALT_BYTES + slot * _SLOT.size
        # A file lock holds off other processes, but not other threads of the process that has it.
        with self._turn:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, _SLOT.size, offset)
            try:
                yield offset
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _SLOT.size, offset)


def open_allowances(folder: Path | None) -> Allowances:
    """Open the file that all processes with this folder share; without a folder, one of this process alone."""
    if folder is None:
        with tempfile.TemporaryFile() as private:
            _fill(private.fileno())
            return Allowances(os.dup(private.fileno()))
    path = folder / FILE_NAME
    if not path.exists():
        descriptor, draft = tempfile.mkstemp(dir=folder)
        try:
            _fill(descriptor)
            # Whoever is first gives the file its name, complete.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            os.close(descriptor)
            Path(draft).unlink()
    return Allowances(os.open(path, os.O_RDWR | os.O_CLOEXEC))


def spend(kind: AllowanceKind, key: str, *, events: int, seconds: float) -> None:
    """Count an event of this installation against its key's allowance: at most `events` at once, refilled in `seconds`.

    Raises:
        TooManyRequests: The allowance is used up.
    """
    wait = _allowances().take(kind, key, events=events, seconds=seconds)
    if wait:
        retry_after = ceil(wait)
        raise TooManyRequests(
            f"That was too often; try again in {retry_after} second{'s' * (retry_after > 1)}.", retry_after=retry_after
        )


def close() -> None:
    """Let go of the file; the next use opens the one that the settings name then."""
    if _allowances.cache_info().currsize:
        _allowances().close()
        _allowances.cache_clear()


@lru_cache
def _allowances() -> Allowances:
    return open_allowances(get_settings().run_dir)


def _fill(descriptor: int) -> None:
    os.truncate(descriptor, _FILE_BYTES)
    os.pwrite(descriptor, os.urandom(_SALT_BYTES), 0)
