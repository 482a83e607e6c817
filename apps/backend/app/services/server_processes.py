"""What the processes of `lm serve` use together, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.config import get_settings

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ResourceUse:
    """What the server's living processes use, and the processor time of those that have ended."""

    resident_bytes: int
    cpu_seconds: float


@dataclass(frozen=True)
class _Process:
    parent: int
    resident_bytes: int
    own_ticks: int
    ended_children_ticks: int


def resource_use() -> ResourceUse | None:
    """Add up the server's processes: the one that was started and those that it started to answer requests.

    Returns None on systems without /proc.
    """
    run_dir = get_settings().run_dir
    root_id = int((run_dir / "pid").read_text()) if run_dir else os.getpid()
    while (before := _read(root_id)) is not None:
        children = [child for pid in _serving(root_id) if (child := _read(pid)) and child.parent == root_id]
        after = _read(root_id)
        # Ended in between, a child would be counted twice or not at all, and the sum could fall later.
        if after is not None and after.ended_children_ticks == before.ended_children_ticks:
            processes = [after, *children]
            ticks = sum(each.own_ticks for each in processes) + after.ended_children_ticks
            return ResourceUse(sum(each.resident_bytes for each in processes), ticks / _TICKS_PER_SECOND)
    return None


def _serving(root_id: int) -> set[int]:
    """Give the processes that have written metrics, living or not, but for the one that was started."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    files = Path(folder).glob("counter_*.db") if folder else ()
    return {int(path.stem.removeprefix("counter_")) for path in files} - {root_id}


def _read(pid: int) -> _Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold anything; counted as in proc(5), the third,
    # the state, is the first after it.
    fields = stat.rpartition(")")[2].split()
    user, system, children_user, children_system = (int(field) for field in fields[11:15])
    return _Process(
        parent=int(fields[1]),
        resident_bytes=int(fields[21]) * _PAGE_BYTES,
        own_ticks=user + system,
        ended_children_ticks=children_user + children_system,
    )
