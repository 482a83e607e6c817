"""`POST /ingest`: a bank's file becomes transactions."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, UploadFile
from pydantic import BaseModel, ConfigDict, Field, Json

from app.api.access import ActingUser, UserSession
from app.api.fields import Text
from app.services.ingest import REPORTED_REJECTIONS, ingest_statement
from app.services.statements import StatementOptions, inspect_statement, preview

router = APIRouter(tags=["ingest"])

OptionText = Annotated[Text, Field(max_length=100)]
LongText = Annotated[Text, Field(max_length=1000)]


class RejectedRecord(BaseModel):
    """A record of the file that is no transaction."""

    line: int
    reason: str


class IngestAnswer(BaseModel):
    """What became of the file: rows = inserted + duplicates + rejected."""

    import_id: int
    rows: int
    inserted: int
    duplicates: int
    rejected: int
    deleted: int
    labels: int
    warnings: list[str]
    rejections: list[RejectedRecord]


class DryRunAnswer(BaseModel):
    """How the file would be read, its first rows, and the first that are none."""

    layout: dict[str, Any]
    first_rows: list[dict[str, Any]]
    rejections: list[dict[str, Any]]


class IngestForm(BaseModel):
    """The fields of the multipart form; all but the file have defaults."""

    # A misspelt dry_run must not store anything.
    model_config = ConfigDict(extra="forbid")

    file: UploadFile
    action: Literal["append", "replace"] = "append"
    account: OptionText | None = None
    columns: Json[Annotated[dict[OptionText, LongText], Field(max_length=20)]] = {}
    date_format: OptionText | None = None
    decimal: Literal[".", ","] | None = None
    delimiter: OptionText | None = None
    encoding: OptionText | None = None
    spending: Literal["negative", "positive"] = "negative"
    dry_run: bool = False

    def options(self) -> StatementOptions:
        """Return how the file is to be read."""
        return StatementOptions(
            account=self.account,
            columns=self.columns,
            date_format=self.date_format,
            decimal=self.decimal,
            delimiter=self.delimiter,
            encoding=self.encoding,
            spending=self.spending,
        )


@router.post("/ingest", form_limits={"max_files": 1, "max_fields": 20, "max_part_size": 1 << 16})
def ingest(
    form: Annotated[IngestForm, Form(media_type="multipart/form-data")], user_id: ActingUser, session: UserSession
) -> IngestAnswer | DryRunAnswer:
    """Ingest a CSV, OFX, QFX or QIF file, plain or gzip; with `dry_run`, only say how it would be read."""
    # A plain function, which the server runs in a thread: reading a large file must not hold up other requests.
    name = Path(form.file.filename or "statement").name
    options = form.options()
    with tempfile.NamedTemporaryFile(prefix="lm-upload-") as upload:
        shutil.copyfileobj(form.file.file, upload)
        upload.flush()
        path = Path(upload.name)
        if form.dry_run:
            layout = inspect_statement(path, options)
            first = preview(path, layout, options)
            return DryRunAnswer(
                layout=layout.to_dict(),
                first_rows=first.rows.to_dicts(),
                rejections=first.rejected.head(REPORTED_REJECTIONS).to_dicts(),
            )
        result = ingest_statement(session, user_id, path, file_name=name, action=form.action, options=options)
    return IngestAnswer.model_validate(asdict(result))
