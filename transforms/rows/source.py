"""What the rows of one shard are made from, beside the item itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from promptreel.providers.base import Provider
from promptreel.providers.registry import text_embedder_of
from promptreel.schemas.field_paths import LeafField, Node, leaf_fields, parse_schema
from promptreel.schemas.prompt import Prompt
from promptreel.schemas.records import LlmCallRow
from promptreel.tables.operation_cache import OperationCache
from promptreel.tables.storage import Storage
from promptreel.transforms.context import RunContext
from promptreel.transforms.elements import OperationOutcome

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
        fields: of a segment's answer.
        level_fields: of an item's answer, None where the prompt asks for none.
        text_embedder: None where texts are not embedded.
        last_answers: the newest text that a model gave for each operation, by the operation's key.
    """

    context: RunContext
    storage: Storage
    cache: OperationCache
    fields: AnswerFields
    level_fields: AnswerFields | None
    text_embedder: Provider | None
    last_answers: Mapping[str, str]

    @property
    def run_id(self) -> str:
        return self.context.run_id

    @property
    def prompt(self) -> Prompt:
        return self.context.request.prompt

    def result_of(self, outcome: OperationOutcome) -> dict[str, Any]:
        """The stored result of an operation that succeeded.

        Raises:
            RuntimeError: it is gone, so that the run cannot be committed.
        """
        result = self.cache.get(outcome.key)
        if result is None:
            raise RuntimeError(
                f"operation {outcome.key} succeeded, but its result is gone from the cache; resume the run"
            )
        return result


def row_source(context: RunContext, storage: Storage, calls: Iterable[LlmCallRow]) -> RowSource:
    """What the rows of the shard with these calls are made from."""
    prompt, settings = context.request.prompt, context.request.settings
    level = prompt.video_level
    return RowSource(
        context=context,
        storage=storage,
        cache=OperationCache(storage),
        fields=_fields_of(parse_schema(prompt.json_schema)),
        level_fields=None if level is None else _fields_of(parse_schema(level.json_schema, "video_level.json_schema")),
        text_embedder=text_embedder_of(settings) if settings.text_embedding.enabled else None,
        last_answers=_last_answers(calls),
    )


def _fields_of(node: Node) -> AnswerFields:
    return AnswerFields(node, leaf_fields(node))


def _last_answers(calls: Iterable[LlmCallRow]) -> dict[str, str]:
    ordered = sorted((call for call in calls if call.response_text), key=lambda call: call.invoked_at)
    return {call.operation_key: call.response_text or "" for call in ordered}
