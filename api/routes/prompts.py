"""Routes of prompts: create, list, get, update, delete, test a schema."""

from __future__ import annotations

from typing import Any

import jsonschema
from fastapi import APIRouter, Query, Request
from sqlalchemy import select

from promptreel.api.db.clock import required_time
from promptreel.api.db.models import PromptRecord
from promptreel.api.runs.prompt_rows import (
    add_prompt,
    change_prompt,
    checked_prompt,
    is_in_use,
    owned_prompt,
    prompt_body,
    version_of,
)
from promptreel.api.runs.prompt_versions import known_versions
from promptreel.api.web.auth import Admin, Reader, Writer
from promptreel.api.web.dependencies import Db
from promptreel.api.web.errors import ApiError
from promptreel.api.web.idempotency import IdempotencyKey, KeyedRequest, answer_once
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.route import ApiRoute
from promptreel.schemas.errors import PromptError
from promptreel.schemas.media_times import read_time_texts
from promptreel.schemas.prompt import check_json_schema
from promptreel.schemas.validation import check_is_small, validator_of
from promptreel.schemas.wire.common import Message
from promptreel.schemas.wire.prompts import (
    CreatePrompt,
    PromptBody,
    PromptList,
    PromptUsage,
    SchemaVerdict,
    TestSchema,
    UpdatePrompt,
)

router = APIRouter(prefix="/prompts", tags=["prompts"], route_class=ApiRoute)


@router.post("", status_code=201, response_model=PromptBody)
def create_prompt(
    body: CreatePrompt, caller: Writer, database: Db, request: Request, key: IdempotencyKey = None
) -> JsonResponse:
    """Create a prompt."""
    prompt = checked_prompt(body.model_dump(mode="json"))
    keyed = KeyedRequest(database, caller, "POST", request.url.path, key, body.model_dump(mode="json"))
    return answer_once(keyed, lambda session: (201, add_prompt(session, caller, prompt)))


@router.get("", response_model=PromptList)
def list_prompts(caller: Reader, database: Db, active_only: bool = True, include_defaults: bool = True) -> JsonResponse:
    """List prompts, newest first."""
    with database.read() as session:
        prompts = select(PromptRecord).where(PromptRecord.account_id == caller.account_id)
        records = session.scalars(prompts.order_by(PromptRecord.created_at.desc(), PromptRecord.prompt_id.desc())).all()
        versions = known_versions(session, caller.account_id, {record.definition["name"] for record in records})
    active = sum(record.is_active for record in records)
    shown = [
        prompt_body(record, version_of(record, versions)) for record in records if record.is_active or not active_only
    ]
    return JsonResponse({"prompts": shown, "total_count": len(records), "active_count": active})


@router.post("/test-schema", response_model=SchemaVerdict)
def test_schema(body: TestSchema, caller: Writer) -> JsonResponse:
    """Validate an example against a schema. A mismatch is part of the response, not an error."""
    try:
        json_schema = check_json_schema(body.json_schema, "json_schema")
        check_is_small(body.sample_data, "sample_data")
        sample = body.sample_data
        sample = read_time_texts(sample, json_schema) if isinstance(sample, dict) else sample
        validator_of(json_schema).validate(sample)
    except (PromptError, ValueError) as error:
        return _verdict(None, str(error))
    except jsonschema.ValidationError as error:
        return _verdict(None, f"{error.json_path}: {error.message}")
    return _verdict(sample, None)


@router.get("/{prompt_id}", response_model=PromptBody)
def get_prompt(prompt_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Get a prompt."""
    with database.read() as session:
        record = owned_prompt(session, caller, prompt_id)
        versions = known_versions(session, caller.account_id, [record.definition["name"]])
        return JsonResponse(prompt_body(record, version_of(record, versions)))


@router.put("/{prompt_id}", response_model=PromptBody)
def update_prompt(
    prompt_id: str, body: UpdatePrompt, caller: Writer, database: Db, request: Request, key: IdempotencyKey = None
) -> JsonResponse:
    """Update the given fields of a prompt. Existing runs are not affected."""
    changes = body.model_dump(mode="json", exclude_unset=True)
    keyed = KeyedRequest(database, caller, "PUT", request.url.path, key, changes)
    return answer_once(keyed, lambda session: (200, change_prompt(session, caller, prompt_id, changes)))


@router.delete("/{prompt_id}", response_model=Message)
def delete_prompt(prompt_id: str, caller: Admin, database: Db, force: bool = Query(default=False)) -> JsonResponse:
    """Delete a prompt. A prompt used by runs is deactivated instead, and only with `force`."""
    with database.write() as session:
        record = owned_prompt(session, caller, prompt_id, to_write=True)
        if not is_in_use(session, caller, prompt_id):
            session.delete(record)
            return JsonResponse({"message": f"Prompt {prompt_id} is deleted."})
        if not force:
            message = "Runs use this prompt, so it cannot be deleted; send force=true to deactivate it."
            raise ApiError(409, "prompt_in_use", message, {"prompt_id": prompt_id})
        record.is_active = False
    return JsonResponse({"message": f"Prompt {prompt_id} is deactivated; existing runs are not affected."})


@router.get("/{prompt_id}/usage", response_model=PromptUsage)
def prompt_usage(prompt_id: str, caller: Reader, database: Db) -> JsonResponse:
    """Get the usage of a prompt, including whether any run uses it."""
    with database.read() as session:
        record = owned_prompt(session, caller, prompt_id)
        body = {
            "prompt_id": prompt_id,
            "name": record.definition["name"],
            "is_active": record.is_active,
            "is_in_use": is_in_use(session, caller, prompt_id),
            "created_at": required_time(record.created_at),
            "schema_properties_count": len(record.definition["json_schema"].get("properties") or {}),
        }
    return JsonResponse(body)


def _verdict(data: Any, error: str | None) -> JsonResponse:
    message = "The example matches the schema." if error is None else "The example does not match the schema."
    shown = data if isinstance(data, dict) else None
    return JsonResponse({"valid": error is None, "validated_data": shown, "error": error, "message": message})
