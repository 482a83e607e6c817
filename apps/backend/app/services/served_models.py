"""The models that this process answers with: opened once, checked, and changed together with what is deployed.

A thread listens for deployments and, should a message be lost, looks every few seconds. It opens what is new before
anybody is answered by it, and puts the new state in the place of the old one at once: a request takes the state that it
finds at its beginning and keeps it to its end.

A model that cannot be opened, fails or takes too long answers nobody for a while: the heuristics do.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import psycopg

from app.db import database_url
from app.errors import LedgermillError
from app.ml.artefact import resolve_artefact
from app.ml.serving import ServedModel, open_model, seconds_of_one
from app.ml.tracking import artefact_root
from app.services.experiment_assignment import Arm, RunningExperiment, versions_due

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 5.0
RECONNECT_SECONDS: Final = 1.0
STOP_SECONDS: Final = 0.25  # how long a server that ends may wait for the thread
# Each takes some tens of megabytes; those that were asked for last are kept.
MOST_MODELS: Final = 16
# How long a model that failed is left alone.
REST_SECONDS: Final = 60.0
# What scores a few rows in less than so much of a processor is quick.
QUICK_SECONDS: Final = 0.05

Unavailable = Literal["none", "broken", "loading", "slow"]


@dataclass(frozen=True)
class VersionFile:
    """Where a version's file is below the registry's folder, and its SHA-256."""

    version: int
    artefact_name: str
    sha256: str


@dataclass(frozen=True)
class Deployed:
    """What category sets are served by; a set is its user's id, or None for the shared one.

    Attributes:
        experiments: Those that are under way.
        files: Of the versions that an arm of one of them names.
    """

    champions: Mapping[int | None, VersionFile]
    challengers: Mapping[int | None, VersionFile]
    experiments: Mapping[int | None, RunningExperiment]
    files: Mapping[int, VersionFile]

    def file_of(self, category_set: int | None, arm: Arm | None) -> VersionFile | None:
        """Return the version that an arm asks; without an arm, the champion. None where there is no such version."""
        match arm.engine if arm else "champion":
            case "champion":
                return self.champions.get(category_set)
            case "challenger":
                return self.challengers.get(category_set)
            case "version":
                return self.files.get(arm.version or 0) if arm else None
        return None

    def files_for(self, category_set: int | None) -> list[VersionFile]:
        """List the versions that answer for a category set: the champion and those that an experiment's arms ask."""
        experiment = self.experiments.get(category_set)
        arms = experiment.arms if experiment else ()
        files = (self.file_of(category_set, arm) for arm in (None, *arms))
        return [file for file in files if file is not None]


NOTHING_DEPLOYED: Final = Deployed({}, {}, {}, {})


@dataclass
class _Failure:
    """Why a version answers nobody, and until when, by the monotonic clock."""

    reason: Unavailable
    until: float


@dataclass
class ModelServer:
    """What is deployed, and the models of it that are open.

    Attributes:
        deployed: What holds now; replaced as a whole.
    """

    deployed: Deployed = NOTHING_DEPLOYED
    _open: dict[int, ServedModel] = field(default_factory=dict)
    _asked_at: dict[int, float] = field(default_factory=dict)
    _failures: dict[int, _Failure] = field(default_factory=dict)
    _quick: set[int] = field(default_factory=set)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _listener: threading.Thread | None = None

    def start(self) -> None:
        """Look, open the models that people are answered by, and follow what is deployed until `stop`.

        Raises:
            psycopg.OperationalError: The database cannot be reached.
        """
        # Before looking, so that nothing that happens from then on is missed.
        connection = _listen()
        self.look(connection)
        self._stopping.clear()
        self._listener = threading.Thread(target=self._follow, args=(connection,), name="deployments", daemon=True)
        self._listener.start()

    def stop(self) -> None:
        """Follow no longer."""
        self._stopping.set()
        if self._listener is not None:
            self._listener.join()
            self._listener = None

    def look_once(self, category_set: int | None) -> None:
        """Look at what is deployed now and open what answers for one category set, for a process of one user's."""
        with _connect() as connection:
            self.deployed = _read_deployed(connection)
        for file in self.deployed.files_for(category_set):
            self.open(file)

    def look(self, connection: psycopg.Connection) -> None:
        """Open what is newly deployed, then let it hold."""
        deployed = _read_deployed(connection)
        served = self.deployed.champions
        # Of sets whose old champion was asked for, the new one will be; of the others as many as there is room for.
        awaited = sorted(
            deployed.champions.items(),
            key=lambda item: (item[0] in served and served[item[0]].version in self._open, item[1].version),
            reverse=True,
        )
        in_arms = [file for each in deployed.experiments for file in deployed.files_for(each)]
        files = dict.fromkeys([*in_arms, *(file for _, file in awaited)])
        for file in list(files)[:MOST_MODELS]:
            self.open(file)
        self.deployed = deployed

    def open(self, file: VersionFile) -> ServedModel | Unavailable:
        """Return the model of a version, opening it where it is not open; or why there is none to answer."""
        found = self.at_hand(file)
        if found != "loading":
            return found
        with self._turn:
            if file.version in self._open:
                return self._open[file.version]
            try:
                model = open_model(resolve_artefact(artefact_root(), file.artefact_name), file.sha256, file.version)
            except LedgermillError as error:
                self.fail(file.version, "broken", str(error))
                return "broken"
            except Exception as error:  # noqa: BLE001 -- a file that is what was registered may still be nonsense
                self.fail(file.version, "broken", f"its file cannot be read ({type(error).__name__}: {error})")
                return "broken"
            self._failures.pop(file.version, None)
            self.note_time(file.version, seconds_of_one(model))
            self._open[file.version] = model
            self._asked_at[file.version] = time.monotonic()
            while len(self._open) > MOST_MODELS:
                self._open.pop(min(self._open, key=lambda version: self._asked_at.get(version, 0.0)))
        return model

    def at_hand(self, file: VersionFile) -> ServedModel | Unavailable:
        """Return the model of a version if it is open and has not failed of late; else why it cannot answer now."""
        failure = self._failures.get(file.version)
        now = time.monotonic()
        if failure is not None and failure.until > now:
            return failure.reason
        model = self._open.get(file.version)
        if model is None:
            return "loading"
        self._asked_at[file.version] = now
        return model

    def is_quick(self, version: int) -> bool:
        """Tell whether a version was quick when it last scored."""
        return version in self._quick

    def note_time(self, version: int, seconds: float) -> None:
        """Note how long a version took to score a few rows, in seconds of a processor."""
        if seconds < QUICK_SECONDS:
            self._quick.add(version)
        else:
            self._quick.discard(version)

    def fail(self, version: int, reason: Unavailable, why: str) -> None:
        """Let a version answer nobody for a while."""
        self._quick.discard(version)
        self._failures[version] = _Failure(reason, time.monotonic() + REST_SECONDS)
        logger.error(
            "Model version %d answers nobody for %d seconds, the heuristics do: %s", version, REST_SECONDS, why
        )

    def _follow(self, connection: psycopg.Connection) -> None:
        looked_at = time.monotonic()
        while not self._stopping.is_set():
            try:
                if connection.closed:
                    connection, looked_at = _listen(), -POLL_SECONDS
                is_told = any(connection.notifies(timeout=STOP_SECONDS, stop_after=1))
                if is_told or time.monotonic() - looked_at >= POLL_SECONDS:
                    looked_at = time.monotonic()
                    self.look(connection)
            except psycopg.Error as error:
                logger.warning("What is deployed cannot be looked up, so it stays as it was: %s", error)
                connection.close()
                self._stopping.wait(RECONNECT_SECONDS)
            except Exception:
                # Whatever it is, the next promotion must be followed.
                logger.exception("What is deployed cannot be followed, so it stays as it was")
                self._stopping.wait(RECONNECT_SECONDS)
        connection.close()


SERVER: Final = ModelServer()
"""The models of this process."""


def _read_deployed(connection: psycopg.Connection) -> Deployed:
    found: dict[str, dict[int | None, VersionFile]] = {"champion": {}, "challenger": {}}
    query = "SELECT role, category_set, version, artefact_name, sha256 FROM deployed_models()"
    for role, category_set, version, name, sha256 in connection.execute(query):
        found[role][category_set] = VersionFile(version, name, sha256)
    return Deployed(found["champion"], found["challenger"], *_read_experiments(connection, found))


def _read_experiments(
    connection: psycopg.Connection, deployed: Mapping[str, Mapping[int | None, VersionFile]]
) -> tuple[dict[int | None, RunningExperiment], dict[int, VersionFile]]:
    """Read what is under way, with the versions that are due for its arms by what is deployed in a role."""
    experiments: dict[int | None, RunningExperiment] = {}
    files: dict[int, VersionFile] = {}
    query = "SELECT category_set, name, unit, salt, ramp, arms, change FROM running_experiments()"
    for category_set, name, unit, salt, ramp, arms, change in connection.execute(query):
        found: list[Arm] = []
        roles = {role: sets[category_set].version for role, sets in deployed.items() if category_set in sets}
        for arm in arms:
            found.append(Arm(arm["name"], arm["engine"], arm["version"], arm["share"], arm["is_stopped"]))
            if arm["version"] is not None:
                files[arm["version"]] = VersionFile(arm["version"], arm["artefact_name"], arm["sha256"])
        versions = versions_due(found, roles)
        experiments[category_set] = RunningExperiment(name, unit, salt, ramp, tuple(found), change, versions)
    return experiments, files


def _listen() -> psycopg.Connection:
    connection = _connect()
    connection.execute("LISTEN lm_deployments")
    return connection


def _connect() -> psycopg.Connection:
    url = database_url("app").set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(url, autocommit=True)
