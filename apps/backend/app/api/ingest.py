"""`POST /ingest`: a bank's file becomes transactions."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, UploadFile
from pydantic import BaseModel, Json

from app.api.access import ActingUser, UserSession
from app.services.ingest import ingest_statement
from app.services.statements import StatementOptions, inspect_statement, preview

router = APIRouter(tags=["ingest"])


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
    """How the file would be read, and its first rows."""

    layout: dict[str, Any]
    first_rows: list[dict[str, Any]]
    rejections: list[dict[str, Any]]


class IngestForm(BaseModel):
    """The fields of the multipart form; all but the file have defaults."""

    file: UploadFile
    action: Literal["append", "replace"] = "append"
    account: str | None = None
    columns: Json[dict[str, str]] = {}
    date_format: str | None = None
    decimal: Literal[".", ","] | None = None
    delimiter: str | None = None
    encoding: str | None = None
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


@router.post("/ingest")
def ingest(
    form: Annotated[IngestForm, Form(media_type="multipart/form-data")], user_id: ActingUser, session: UserSession
) -> IngestAnswer | DryRunAnswer:
    """Ingest a CSV, OFX, QFX or QIF file, plain or gzip; with `dry_run`, only say how it would be read.

    A plain function, which the server runs in a thread: reading a large file must not hold up other requests.
    """
    name = Path(form.file.filename or "statement").name
    options = form.options()
    with tempfile.NamedTemporaryFile(prefix="lm-upload-") as upload:
        shutil.copyfileobj(form.file.file, upload)
        upload.flush()
        path = Path(upload.name)
        if form.dry_run:
            layout = inspect_statement(path, options, filename=name)
            first = preview(path, layout, options)
            return DryRunAnswer(
                layout=layout.to_dict(), first_rows=first.rows.to_dicts(), rejections=first.rejected.to_dicts()
            )
        result = ingest_statement(session, user_id, path, file_name=name, action=form.action, options=options)
    return IngestAnswer.model_validate(asdict(result))
