"""The containers, as far as they can be checked without an engine to run them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import typer.main
import yaml

from app.cli import app as lm
from app.config import BACKEND_DIR, REPOSITORY_ROOT, Settings

COMPOSE = (REPOSITORY_ROOT / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
DOCKERFILE = (BACKEND_DIR / "Dockerfile").read_text()
EXAMPLE = (REPOSITORY_ROOT / ".env.example").read_text()

# What this file uses of the Compose specification, https://compose-spec.io.
SERVICE_KEYS = {
    "build", "command", "depends_on", "environment", "healthcheck", "image", "init", "ports", "profiles", "restart",
    "secrets", "security_opt", "shm_size", "stop_grace_period", "volumes",
}  # fmt: skip
HEALTHCHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def test_compose_file_uses_only_keys_of_the_specification() -> None:
    top = yaml.safe_load(COMPOSE)
    assert {key for key in top if not key.startswith("x-")} == {"name", "secrets", "services", "volumes"}
    for name, service in SERVICES.items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service.get("healthcheck", {})) <= HEALTHCHECK_KEYS, name
        assert all(isinstance(value, str) for value in service.get("environment", {}).values()), name


def test_services_wait_only_for_services_that_reach_the_awaited_state() -> None:
    for name, service in SERVICES.items():
        awaited = service.get("depends_on", {})
        for other, wait in awaited.items() if isinstance(awaited, dict) else ():
            assert wait["condition"] in CONDITIONS
            assert wait["condition"] != "service_healthy" or "healthcheck" in SERVICES[other], (name, other)
        for other in awaited:
            # A service without a profile always starts; one with a profile starts with its own.
            assert set(SERVICES[other].get("profiles", [])) <= set(service.get("profiles", [])), (name, other)


def test_database_backend_and_worker_start_without_a_profile_and_the_rest_with_one() -> None:
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {"postgres", "migrate", "backend", "worker"}
    assert {profile for service in SERVICES.values() for profile in service.get("profiles", [])} == {
        "monitoring",
        "mlflow",
    }


@pytest.mark.parametrize("service", [name for name, service in SERVICES.items() if service["image"] == "ledgermill"])
def test_every_lm_command_exists_with_its_options(service: str) -> None:
    program, *arguments = SERVICES[service]["command"]
    assert program == "lm"
    command: Any = typer.main.get_command(lm)
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    command.make_context(service, arguments)


def test_images_are_pinned() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    for image in (*bases, *images):
        assert re.search(r":v?\d+\.\d+", image), image


def test_every_file_that_is_mounted_or_copied_exists() -> None:
    mounted = [
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
    ]
    copied = [
        source
        for arguments in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in arguments.split()[:-1]
    ]
    assert mounted
    assert copied
    for path in (*mounted, *copied):
        assert (REPOSITORY_ROOT / path).exists(), path


def test_every_named_volume_is_declared_and_used() -> None:
    used = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert used == set(yaml.safe_load(COMPOSE)["volumes"])


def test_every_variable_is_in_the_example_and_in_the_documentation() -> None:
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE))
    assert asked == set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))
    documented = (REPOSITORY_ROOT / "docs" / "operations.md").read_text()
    assert {name for name in asked if f"`{name}`" not in documented} == set()


def test_every_setting_of_the_backend_is_one_that_the_program_reads() -> None:
    known = {"DATABASE_URL"} | {f"LM_{name}".upper() for name in Settings.model_fields}
    given = set(SERVICES["backend"]["environment"]) | set(re.findall(r"\b(LM_\w+)=", DOCKERFILE))
    assert given <= known


def test_what_the_example_leaves_empty_keeps_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Settings()
    empty = re.findall(r"^(LM_\w+)=$", EXAMPLE, re.MULTILINE)
    assert {"LM_LABEL_WEIGHTS", "LM_TARGET_ERROR", "LM_PROMOTION", "LM_SHADOW", "LM_SHADOW_MEMORY_MIB"} <= set(empty)
    for name in empty:
        monkeypatch.setenv(name, "")
    assert Settings() == defaults


def test_prometheus_gets_the_token_that_the_backend_asks_for() -> None:
    variable = yaml.safe_load(COMPOSE)["secrets"]["metrics_token"]["environment"]
    assert SERVICES["backend"]["environment"][variable].startswith(f"${{{variable}:?")
    assert SERVICES["prometheus"]["secrets"] == ["metrics_token"]
    (scrape,) = yaml.safe_load((REPOSITORY_ROOT / "ops/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert scrape["authorization"] == {"credentials_file": "/run/secrets/metrics_token"}


def test_no_password_stands_in_any_of_the_files() -> None:
    assert re.findall(r"^\w*(?:PASSWORD|TOKEN)=(.+)$", EXAMPLE, re.MULTILINE) == []
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key or "TOKEN" in key:
                assert re.fullmatch(r"\$\{\w+:[-?][^}]*\}", value), (name, key)
            if "://" in value:
                assert re.search(r"://\w+:\$\{\w+:[-?][^}]*\}@", value), (name, key)


def test_nothing_is_published_beyond_this_machine_and_no_caller_is_trusted() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert SERVICES["backend"]["environment"]["LM_LOCAL_TRUST"] == "false"


def test_the_specified_commands_find_their_database_and_module() -> None:
    database = SERVICES["postgres"]["environment"]
    assert (database["POSTGRES_USER"], database["POSTGRES_DB"]) == ("myuser", "finance")
    # From 18 on the image refuses a volume at /var/lib/postgresql/data.
    assert "postgres:/var/lib/postgresql" in SERVICES["postgres"]["volumes"]
    assert re.findall(r"^WORKDIR (\S+)", DOCKERFILE, re.MULTILINE)[-1] == "/srv/ledgermill/apps/backend"
    # The code finds its repository by its own place in it.
    for folder in ("apps/backend", "warehouse"):
        assert f"COPY {folder} /srv/ledgermill/{folder}\n" in DOCKERFILE


def test_image_runs_as_nobody_special_with_locked_dependencies_and_no_others() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)", final, re.MULTILINE) == ["ledgermill"]
    installs = re.findall(r"uv pip \w+ .*", DOCKERFILE)
    assert installs == [
        "uv pip sync --require-hashes requirements.txt",
        "uv pip install --no-deps --build-constraints requirements-dev.txt --editable .",
    ]


def test_dashboard_reads_the_source_that_is_provisioned_from_where_it_is_mounted() -> None:
    grafana = REPOSITORY_ROOT / "ops" / "grafana"
    (source,) = yaml.safe_load((grafana / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    dashboard = json.loads((grafana / "dashboards/ledgermill.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    (provider,) = yaml.safe_load((grafana / "provisioning/dashboards/ledgermill.yml").read_text())["providers"]
    assert f"./ops/grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
