"""The user's own rules: conditions that give transactions a category, with their history, effect and measure."""

from app.services.rules.application import (
    Application,
    PlannedChange,
    RulePreview,
    UndoneApplication,
    apply_rule,
    preview_draft,
    preview_rule,
    undo_application,
)
from app.services.rules.conditions import Condition, RuleDraft, describe_condition
from app.services.rules.matching import TRANSACTION_SCHEMA as RULE_SCHEMA
from app.services.rules.matching import ActiveRule, match_rules, winning_rules
from app.services.rules.proposals import RuleProposal, propose_rules
from app.services.rules.report import RuleConflict, RuleReport, RulesReport, report_rules
from app.services.rules.store import (
    RuleRevision,
    add_rule,
    edit_rule,
    enable_rule,
    list_rules,
    read_active_rules,
    read_rule,
    remove_rule,
    rule_history,
)
from app.services.rules.track_records import TrackRecord, rule_track_records, without_own

__all__ = [
    "RULE_SCHEMA",
    "ActiveRule",
    "Application",
    "Condition",
    "PlannedChange",
    "RuleConflict",
    "RuleDraft",
    "RulePreview",
    "RuleProposal",
    "RuleReport",
    "RuleRevision",
    "RulesReport",
    "TrackRecord",
    "UndoneApplication",
    "add_rule",
    "apply_rule",
    "describe_condition",
    "edit_rule",
    "enable_rule",
    "list_rules",
    "match_rules",
    "preview_draft",
    "preview_rule",
    "propose_rules",
    "read_active_rules",
    "read_rule",
    "remove_rule",
    "report_rules",
    "rule_history",
    "rule_track_records",
    "undo_application",
    "winning_rules",
    "without_own",
]
