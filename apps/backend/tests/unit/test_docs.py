"""The pages say what the program does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import typer
import yaml

from app.cli import app as lm
from app.config import BACKEND_DIR, REPOSITORY_ROOT, Settings
from app.ml import feature_build

if TYPE_CHECKING:
    from pathlib import Path

OPERATIONS = (REPOSITORY_ROOT / "docs" / "operations.md").read_text()
PAGES = sorted(
    [
        *(REPOSITORY_ROOT / name for name in ("README.md", "CHANGELOG.md", "warehouse/models/ML_README.md")),
        *REPOSITORY_ROOT.glob("docs/**/*.md"),
    ]
)


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


def without_code(content: str) -> str:
    content = re.sub(r"^( *)```.*?^\1```$", "", content, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]*`", "code", content)


def anchors_of(content: str) -> set[str]:
    """Give the names that a forge makes of a page's headings."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", content, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY_ROOT)))
def test_every_link_and_image_of_a_page_leads_somewhere(page: Path) -> None:
    text = without_code(page.read_text())
    targets = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    for target in targets:
        if re.match(r"(https?|mailto):", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors_of(linked.read_text()), target


def code_of(content: str) -> list[str]:
    """Give the command lines of fenced and indented blocks, and the code within sentences."""
    fenced = re.findall(r"^ *```bash.*?\n(.*?)^ *```$", content, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```.*?^ *```$", "", content, flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(fenced).replace("\\\n", " ").splitlines() + re.findall(r"^    \S.*$", rest, re.MULTILINE)
    return [line.split(" #")[0] for line in lines] + re.findall(r"`([^`]+)`", rest)


def options_of(command: Any) -> set[str]:
    """Give the long options of a command of ours and of the commands below it."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    below = getattr(command, "commands", {}).values()
    return {"--help"}.union(own, *(options_of(each) for each in below))


def known_options(words: list[str], of_build: set[str]) -> set[str] | None:
    """Give the options that may stand in a command, or nothing if the command is not ours."""
    command: Any = typer.main.get_command(lm)
    if "app.ml.feature_build" in words:
        return of_build
    if "lm" in words:
        for word in words[words.index("lm") + 1 :]:
            command = getattr(command, "commands", {}).get(word, command)
        return options_of(command)
    if words[:1] and words[0].startswith("--"):  # named within a sentence, about one of our commands
        return options_of(command) | of_build
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY_ROOT)))
def test_every_option_that_a_page_names_is_one_that_its_command_has(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        feature_build.main(["--help"])
    of_build = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    for code in code_of(page.read_text()):
        for part in re.split(r"[|;&]+", code):
            words = part.replace("(", " ").replace(")", " ").split()
            known = known_options(words, of_build)
            named = {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}
            assert known is None or named <= known, part
