"""Settings, read from the environment; every one has a default that works on a fresh clone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

REPOSITORY_ROOT = Path(__file__).resolve().parents[3]
BACKEND_DIR = REPOSITORY_ROOT / "apps" / "backend"
WAREHOUSE_DIR = REPOSITORY_ROOT / "warehouse"


class LabelWeights(BaseModel):
    """How much a label counts in training, by where it came from.

    The warehouse's vars `sample_weight_*` have the same defaults; a test holds the two together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    human: float = Field(default=3.0, gt=0, allow_inf_nan=False)
    rule: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    import_: float = Field(default=0.5, gt=0, allow_inf_nan=False, alias="import")

    def by_source(self) -> dict[str, float]:
        """Return the weight of each source of labels."""
        return self.model_dump(by_alias=True)


class PromotionPolicy(BaseModel):
    """When a challenger becomes champion, and when a champion is taken back.

    Attributes:
        automatic: Whether challengers are promoted and refused without being asked for.
        least_answers: Transactions that both were asked about and somebody said what they are, at the fewest. How many
            merchants of users they are of, which is what is independent, counts in the intervals.
        category_answers: Of a category, from which on it counts by itself.
        category_margin: By how much of a category's answers the challenger may be worse.
        milliseconds: What it may take for one suggestion, in 95 of 100 cases, in processor time.
        least_timings: How often that must have been measured.
        promise_tolerance: How far the share of right suggestions may be below what the champion was sure of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    automatic: bool = True
    least_answers: int = Field(default=200, ge=30)
    category_answers: int = Field(default=20, ge=1)
    category_margin: float = Field(default=0.1, ge=0, lt=1)
    milliseconds: float = Field(default=5.0, gt=0)
    least_timings: int = Field(default=30, ge=1)
    promise_tolerance: float = Field(default=0.05, ge=0, lt=1)


class Settings(BaseSettings):
    """What can be set, by environment variables of the same names in capitals with the prefix `LM_`.

    One that is set to nothing is as if it were not set.

    docs/operations.md lists them all; a test holds that page to this class.
    """

    model_config = SettingsConfigDict(env_prefix="LM_", env_ignore_empty=True, extra="ignore")

    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    """Administrative URL of a PostgreSQL >= 15; unset: the embedded server."""
    role_secret: str | None = None
    """Secret the passwords of the three roles are derived from; unset: the password in DATABASE_URL."""
    app_database_url: str | None = None
    """URL of the role lm_app where it is managed elsewhere."""
    jobs_database_url: str | None = None
    """URL of the role lm_jobs where it is managed elsewhere."""
    mlflow_database_url: str | None = None
    """URL of MLflow's database; unset: one of its own, made on the server of the ledger's."""
    data_dir: Path = REPOSITORY_ROOT / ".data"
    """The embedded database and whatever else must survive."""
    build_dir: Path = REPOSITORY_ROOT / "build"
    """Reports: everything in it can be made again."""
    profiles_dir: Path = WAREHOUSE_DIR
    """Where `lm db up` writes dbt's profiles.yml."""
    db_port: int | None = None
    """Port of the embedded server; unset: a free one, chosen once and kept."""
    label_weights: LabelWeights = LabelWeights()
    """How much a label counts in training, by its source."""
    target_error: float | None = Field(default=None, gt=0, lt=0.5)
    """What may be wrong of that which a model applies without asking, as a share; unset: each model chooses."""
    promotion: PromotionPolicy = PromotionPolicy()
    """When a challenger becomes champion by itself, and when a champion is taken back."""
    training_pause_minutes: int = Field(default=10, ge=0, le=30 * 24 * 60)
    """How long after one training of a category set began the next is taken over the API; 0: at once. The record of
    jobs reaches 30 days back."""
    local_user: str = "local"
    """The user that the command line acts as, and who is added where there is none when the API starts."""
    local_trust: bool = False
    """Whether a request from this machine that is no web page's acts as the only user there is, without a token."""
    metrics_token: str | None = None
    """What a scraper sends as bearer token; unset: /metrics and the API's documentation are for this machine alone."""
    session_hours: int = Field(default=24 * 14, gt=0)
    """How long a login to the console lasts."""
    max_upload_mib: int = Field(default=512, gt=0)
    """Largest statement that can be uploaded."""
    max_body_mib: int = Field(default=2, gt=0)
    """Largest body of every other request."""
    rate_limit_per_minute: int = Field(default=6000, ge=0)
    """Requests a user may make at once, an allowance that takes a minute to refill, over all workers; 0: any number."""
    shadow: bool = True
    """Whether a challenger is asked, in a process of its own, what it would have suggested."""
    shadow_memory_mib: int = Field(default=1024, gt=0)
    """Memory that this process may take; with more it is ended and begun again."""
    run_dir: Path | None = None
    """What the workers of one server share while it runs; `lm serve` sets it. Unset: each process is on its own."""


@lru_cache
def get_settings() -> Settings:
    """Return the settings, read once per process."""
    return Settings()
