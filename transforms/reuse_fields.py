"""Request only the fields of a segment that no earlier answer has, and merge both into one result.

Earlier answers are those of the same segment with the same instructions and model, under another schema. Their keys are
computed from the schemas in `promptreel.tables.asked_schemas`, so a run without such schemas makes no look-up for its
segments. Schemas are listed once per worker: those of runs that start later are not seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from promptreel.providers.answers import CheckedAnswer
from promptreel.providers.base import Provider, SegmentInput
from promptreel.providers.call_policy import CallSubject, CallTally
from promptreel.providers.earlier_fields import EarlierSchema, FieldSearch, earlier_schemas
from promptreel.providers.extraction import asked_schemas_key, extraction_request, to_item_times_of
from promptreel.providers.key_material import schema_material
from promptreel.providers.schema_fields import field_definitions, prompt_of_fields
from promptreel.schemas.errors import InvalidInput, StorageError
from promptreel.schemas.ids import digest
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.prompt import Prompt
from promptreel.tables.asked_schemas import other_asked_schemas, store_asked_schema
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import SegmentTask
from promptreel.transforms.model_session import ModelSession

KeyOf = Callable[[SegmentTask, RunContext, Provider], tuple[str, str]]


class EarlierAnswers:
    """Where the earlier answers of a run's segments are stored.

    Args:
        key_of: returns the operation key of a segment's field extraction in a run, first of several.

    Raises:
        StorageError: storage is unavailable.
    """

    def __init__(self, storage: Storage, context: RunContext, provider: Provider, key_of: KeyOf) -> None:
        prompt, settings = context.request.prompt, context.request.settings
        self._json_schema = prompt.json_schema
        self.provider = provider
        self._key_of = key_of
        self._contexts: list[tuple[EarlierSchema, RunContext]] = []
        self._storage = storage
        self._key = context.scoped(asked_schemas_key(provider, prompt))
        # Earlier answers have no evidence for the fields of this run.
        is_reused = provider.is_called and settings.reuse_results and settings.reuse_fields and not settings.evidence
        self._is_enabled = is_reused and field_definitions(prompt.json_schema) is not None
        if self._is_enabled:
            asked = other_asked_schemas(storage, self._key, schema_material(prompt.json_schema))
            for schema in earlier_schemas(prompt.json_schema, asked):
                if (earlier := _context_of(context, schema)) is not None:
                    self._contexts.append((schema, earlier))

    def announce(self) -> None:
        """Store the run's schema, so that later runs find the answers. Raises StorageError."""
        if self._is_enabled:
            store_asked_schema(self._storage, self._key, schema_material(self._json_schema))

    def search(self) -> FieldSearch | None:
        """Return a new search for the fields of one segment; None if no earlier schema shares fields."""
        schemas = [schema for schema, _ in self._contexts]
        return FieldSearch(self._json_schema, schemas) if schemas else None

    def key(self, task: SegmentTask, schema: EarlierSchema) -> str:
        """Return the operation key of a segment's earlier answer."""
        context = next(context for known, context in self._contexts if known is schema)
        return self._key_of(task, context, self.provider)[0]


def merged_result(search: FieldSearch, span: TimeSpan, answer: CheckedAnswer | None) -> dict[str, Any] | None:
    """Return a result to cache, merged from earlier answers and the one with the fields that were missing.

    Args:
        answer: None if no fields are missing.

    Returns:
        None if the fields do not make a valid answer of one version of the model.
    """
    merged = search.merged(answer)
    if merged is None:
        return None
    metadata, outside = to_item_times_of(merged, search.json_schema, span)
    warnings = dict.fromkeys([answer.warning if answer is not None else None, outside, *search.warnings()])
    warning = "; ".join(part for part in warnings if part)
    return {"metadata": metadata, "warning": warning or None, **search.result(merged, answer)}


class FieldReuse:
    """The reuse of fields by one worker's session."""

    def __init__(self, context: RunContext, session: ModelSession, key_of: KeyOf) -> None:
        self._context = context
        self._session = session
        self._key_of = key_of
        self._answers: EarlierAnswers | None = None
        self._is_open = False
        self._lock = asyncio.Lock()

    async def result(
        self,
        task: SegmentTask,
        subject: CallSubject,
        tally: CallTally,
        load_media: Callable[[], Awaitable[SegmentInput]],
    ) -> dict[str, Any] | None:
        """Return the result of a segment with at least one field of an earlier answer; None to request all fields.

        Raises:
            ModelError, Halted: the call for the missing fields failed.
            StorageError: storage is unavailable.
        """
        search = await self._search(task)
        if search is None:
            return None
        answer = await self._request(search.missing, subject, tally, await load_media()) if search.missing else None
        result = merged_result(search, task.planned.span, answer)
        if result is not None:
            tally.call_ids = (*search.call_ids(), *tally.call_ids)
        return result

    async def _search(self, task: SegmentTask) -> FieldSearch | None:
        answers = await self._earlier_answers()
        search = answers.search() if answers is not None else None
        if answers is None or search is None:
            return None
        while (schema := search.next()) is not None:
            found = await self._session.find_earlier(answers.key(task, schema))
            if found is not None:
                search.use(schema, *found)
        return search if search.used else None

    async def _request(
        self, names: tuple[str, ...], subject: CallSubject, tally: CallTally, media: SegmentInput
    ) -> CheckedAnswer:
        """Request some fields; the key of the call tells its recorded answer from a complete one."""
        prompt = prompt_of_fields(self._context.request.prompt, names)
        request = replace(extraction_request(prompt, media), fields=names)
        return await self._session.generate(request, _subject_of_part(subject, names), tally)

    async def _earlier_answers(self) -> EarlierAnswers | None:
        """Return what earlier runs asked; the first call lists it and stores the schema of this run."""
        async with self._lock:
            if not self._is_open:
                self._is_open = True
                self._answers = await asyncio.to_thread(self._open)
        return self._answers

    def _open(self) -> EarlierAnswers | None:
        session = self._session
        try:
            answers = EarlierAnswers(session.storage, self._context, session.provider, self._key_of)
            answers.announce()
        except StorageError as error:
            logging.getLogger(__name__).warning("fields of earlier answers are not reused: %s", error)
            return None
        return answers


def _subject_of_part(subject: CallSubject, names: tuple[str, ...]) -> CallSubject:
    return replace(subject, operation_key=digest([subject.operation_key, list(names)]), earlier_key=None)


def _context_of(context: RunContext, schema: EarlierSchema) -> RunContext | None:
    """Return the context of a run with an earlier schema; None if this version does not accept it."""
    request = context.request
    try:
        prompt = Prompt(request.prompt.name, request.prompt.prompt_text, schema.json_schema)
    except InvalidInput:
        return None
    return replace(context, request=replace(request, prompt=prompt))
