"""The data besides the item itself from which the rows of one shard are built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptreel.providers.base import Provider
from promptreel.providers.registry import text_embedder_of
from promptreel.schemas.field_paths import LeafField, Node, leaf_fields, parse_schema
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.service_state import ServiceState, error_identity
from promptreel.schemas.table_rows import LlmCallRow
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.progress import read_service_states
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import Failure, OperationOutcome

Row = dict[str, Any]


@dataclass(frozen=True)
class AnswerFields:
    """The fields of an answer: the tree of its schema, and the tree's leaves."""

    node: Node
    leaves: tuple[LeafField, ...]


@dataclass(frozen=True)
class RowSource:
    """The run and its stored results.

    Attributes:
        fields: the fields of a segment's answer.
        item_fields: the fields of an item's synthesis; None if the prompt has no video level.
        text_embedder: None if texts are not embedded.
        last_answers: the newest response text for each operation, by operation key.
        halts: the errors that halted the calls of this attempt.
    """

    context: RunContext
    storage: Storage
    cache: OperationCache
    fields: AnswerFields
    item_fields: AnswerFields | None
    text_embedder: Provider | None
    last_answers: Mapping[str, str]
    halts: Sequence[ServiceState] = ()

    @property
    def run_id(self) -> str:
        return self.context.run_id

    @property
    def prompt(self) -> Prompt:
        return self.context.request.prompt

    def has_halted(self, failure: Failure) -> bool:
        """Return whether a failure is the error that halted the run's calls, so it does not belong to its segment."""
        identity = error_identity(failure.message)
        return any(halt.code == failure.code and error_identity(halt.message) == identity for halt in self.halts)

    def result_of(self, outcome: OperationOutcome) -> dict[str, Any]:
        """Return the cached result of an operation that succeeded.

        Raises:
            RuntimeError: the result is missing from the cache; the run cannot be committed.
        """
        result = self.cache.get(outcome.key)
        if result is None:
            raise RuntimeError(
                f"operation {outcome.key} succeeded, but its result is missing from the cache; resume the run"
            )
        return result


def row_source(context: RunContext, storage: Storage, calls: Iterable[LlmCallRow]) -> RowSource:
    """Build the source for the rows of the shard that has these calls."""
    prompt, settings = context.request.prompt, context.request.settings
    level = prompt.video_level
    return RowSource(
        context=context,
        storage=storage,
        cache=OperationCache(storage),
        fields=_fields_of(parse_schema(prompt.json_schema)),
        item_fields=None if level is None else _fields_of(parse_schema(level.json_schema, "video_level.json_schema")),
        text_embedder=text_embedder_of(settings) if settings.text_embedding.enabled else None,
        last_answers=_last_answers(calls),
        halts=[
            state for state in read_service_states(storage, context.run_id, context.attempt) if state.status == "halted"
        ],
    )


def _fields_of(node: Node) -> AnswerFields:
    return AnswerFields(node, leaf_fields(node))


def _last_answers(calls: Iterable[LlmCallRow]) -> dict[str, str]:
    ordered = sorted((call for call in calls if call.response_text), key=lambda call: call.invoked_at)
    return {call.operation_key: call.response_text or "" for call in ordered}
