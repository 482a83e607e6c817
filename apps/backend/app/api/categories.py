"""`/categories`: the categories that a user has, and the names that they are shown under."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, status
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import ActingUser, UserSession
from app.api.fields import PathId, Text
from app.services import categories

router = APIRouter(prefix="/categories", tags=["categories"])

Name = Annotated[Text, Field(min_length=1, max_length=categories.LONGEST_NAME)]


class CategoryAnswer(BaseModel):
    """A category as its user sees it.

    `key` is what a category of the shared set is called for good; `transactions` are those labelled so, under its own
    name or one of `also_called`, which are shown under it.
    """

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": 14,
                    "key": "food.eating_out",
                    "name": "Eating out",
                    "group_name": "Food and drink",
                    "is_own": False,
                    "transactions": 42,
                    "also_called": ["Coffee and snacks"],
                }
            ]
        },
    )

    id: int
    key: str | None
    name: str
    group_name: str | None
    is_own: bool
    transactions: int
    also_called: list[str]


class CategoryToAdd(BaseModel):
    """A category of the user's own."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "Allotment", "group_name": "Home"}]}
    )

    name: Name
    group_name: Name | None = None


class CategoryMerge(BaseModel):
    """The name of a category, and the one to show it under from now on: another category's, or a new one."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "Coffee and snacks", "into": "Eating out"}]}
    )

    name: Name
    into: Name


class CategoryUndo(BaseModel):
    """A name that is shown under another one; the answer's `also_called` list them."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "Coffee and snacks"}]})

    name: Name


@router.get("")
def read(user_id: ActingUser, session: UserSession) -> list[CategoryAnswer]:
    """List the user's categories with how many transactions are labelled so."""
    return [CategoryAnswer.model_validate(category) for category in categories.list_categories(session, user_id)]


@router.post("", status_code=status.HTTP_201_CREATED)
def add(category: CategoryToAdd, user_id: ActingUser, session: UserSession) -> CategoryAnswer:
    """Add a category of the user's own."""
    added = categories.add_category(session, user_id, category.name, category.group_name)
    return CategoryAnswer.model_validate(added)


@router.post("/merge")
def merge(names: CategoryMerge, user_id: ActingUser, session: UserSession) -> list[CategoryAnswer]:
    """Show a category under another name from now on; no label is rewritten. Answers the user's categories."""
    categories.rename_or_merge(session, user_id, names.name, names.into)
    return read(user_id, session)


@router.post("/undo")
def undo(word: CategoryUndo, user_id: ActingUser, session: UserSession) -> list[CategoryAnswer]:
    """Show a name under its own word again. Answers the user's categories."""
    categories.undo_rename(session, user_id, word.name)
    return read(user_id, session)


@router.delete("/{category_id:int}", status_code=status.HTTP_204_NO_CONTENT)
def remove(category_id: PathId, user_id: ActingUser, session: UserSession) -> None:
    """Remove a category of the user's own that nothing uses."""
    categories.remove_category(session, user_id, category_id)
