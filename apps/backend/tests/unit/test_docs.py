"""The pages say what the program does."""

from __future__ import annotations

import re

import yaml

from app.config import BACKEND_DIR, REPOSITORY_ROOT, Settings

OPERATIONS = (REPOSITORY_ROOT / "docs" / "operations.md").read_text()


def test_operations_page_lists_every_setting_and_no_other() -> None:
    section = OPERATIONS.split("## Settings")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    known = {str(field.validation_alias or f"LM_{name}".upper()) for name, field in Settings.model_fields.items()}
    assert len(listed) == len(set(listed))
    assert set(listed) == known


def test_operations_page_has_a_runbook_for_every_alert() -> None:
    groups = yaml.safe_load((REPOSITORY_ROOT / "ops/prometheus/alerts.yml").read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"]]
    section = OPERATIONS.split("## Alerts")[1].split("\n## ")[0]
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == [rule["alert"] for rule in alerts]
    for rule in alerts:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_troubleshooting_quotes_sentences_that_the_program_says() -> None:
    source = "\n".join(
        path.read_text() for folder in ("app", "alembic") for path in BACKEND_DIR.glob(f"{folder}/**/*.py")
    )
    # A sentence that is written over several lines is one all the same.
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    quoted = re.findall(r'^### "(.+)"$', OPERATIONS.split("## Troubleshooting")[1], re.MULTILINE)
    assert len(quoted) > 10
    for sentence in quoted:
        for part in sentence.split("…"):
            assert part.strip() in source, sentence


def test_worker_table_lists_every_scheduled_job() -> None:
    source = (BACKEND_DIR / "app/jobs/tasks.py").read_text()
    section = OPERATIONS.split("## The worker")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == re.findall(r'task\(name="(\w+)"', source)
