"""Prompts in the database: look up, add, change, render."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from promptreel.api.db.clock import now, required_time
from promptreel.api.db.ids import new_id
from promptreel.api.db.models import PromptRecord, RunRecord
from promptreel.api.runs.prompt_versions import register_version
from promptreel.api.web.auth import Principal
from promptreel.api.web.errors import invalid, not_found
from promptreel.schemas.errors import PromptError
from promptreel.schemas.ids import prompt_id_of
from promptreel.schemas.prompt import Prompt, prompt_from_dict


def owned_prompt(session: Session, caller: Principal, prompt_id: str, *, to_write: bool = False) -> PromptRecord:
    """Return a prompt of the caller.

    Args:
        to_write: lock the row until the transaction ends.

    Raises:
        ApiError: 404 if it does not exist or belongs to another account.
    """
    record = session.get(PromptRecord, prompt_id, with_for_update=to_write)
    if record is None or record.account_id != caller.account_id:
        raise not_found("prompt", prompt_id)
    return record


def add_prompt(session: Session, caller: Principal, prompt: Prompt) -> dict[str, Any]:
    """Add a prompt; return it as JSON values."""
    created_at = now()
    record = PromptRecord(
        prompt_id=new_id("prompt"),
        account_id=caller.account_id,
        definition=prompt.to_dict(),
        is_active=True,
        created_at=created_at,
        updated_at=created_at,
    )
    session.add(record)
    return prompt_body(record, register_version(session, caller.account_id, prompt))


def change_prompt(session: Session, caller: Principal, prompt_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Update the given fields of a prompt (JSON values of `UpdatePrompt`); return it as JSON values.

    Raises:
        ApiError: 404 if it does not exist, 422 if the changed prompt is invalid.
    """
    record = owned_prompt(session, caller, prompt_id, to_write=True)
    prompt = checked_prompt(_changed(record.definition, changes))
    record.definition = prompt.to_dict()
    if changes.get("is_active") is not None:
        record.is_active = changes["is_active"]
    record.updated_at = now()
    return prompt_body(record, register_version(session, caller.account_id, prompt))


def is_in_use(session: Session, caller: Principal, prompt_id: str) -> bool:
    """Whether any run used a prompt."""
    uses = select(func.count()).where(RunRecord.account_id == caller.account_id, RunRecord.prompt_id == prompt_id)
    return bool(session.scalar(uses))


def checked_prompt(definition: Mapping[str, Any]) -> Prompt:
    """Decode a definition in a request.

    Raises:
        ApiError: 422 if it is invalid.
    """
    known = ("name", "description", "prompt_text", "json_schema", "video_level", "semantic_indexing", "media")
    try:
        return prompt_from_dict({name: definition.get(name) for name in known}, "prompt")
    except PromptError as error:
        raise invalid(str(error)) from error


def prompt_body(record: PromptRecord, version: int | None) -> dict[str, Any]:
    """Render a prompt as JSON values."""
    return {
        "prompt_id": record.prompt_id,
        "user_id": record.account_id,
        "media": None,
        **record.definition,
        "is_active": record.is_active,
        "created_at": required_time(record.created_at),
        "version": version,
        "content_id": prompt_id_of(record.definition),
    }


def version_of(record: PromptRecord, versions: Mapping[tuple[str, str], int]) -> int | None:
    """Return the version number of a prompt's content among `known_versions`."""
    return versions.get((record.definition["name"], prompt_id_of(record.definition)))


def _changed(definition: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    known = {*definition, "media"}  # a definition without needs has no `media`
    applied = {name: value for name, value in changes.items() if name in known and value is not None}
    changed = {**definition, **applied}
    if changes.get("clear_video_level"):
        changed["video_level"] = None
        changed["semantic_indexing"] = {**changed["semantic_indexing"], "disabled_video_level_fields": []}
    return changed
