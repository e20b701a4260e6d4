"""Rows of an item's embedded frames and embedded texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from promptreel.providers.base import Provider
from promptreel.providers.text_embedding import MAX_TEXT_CHARS, unpack_vectors
from promptreel.schemas.arrow import row_of
from promptreel.schemas.mediatime import seconds_from_us
from promptreel.schemas.table_rows import ImageEmbeddingRow, TextEmbeddingRow
from promptreel.tables.layout import analysis_folder
from promptreel.tables.table_schemas import VECTOR
from promptreel.transforms.elements import ItemOutcome
from promptreel.transforms.embed_texts import batch_keys, texts_of_item
from promptreel.transforms.rows.source import Row, RowSource


def image_embedding_rows(item: ItemOutcome, source: RowSource) -> Iterator[Row]:
    """Yield the embedded frames. A frame that repeats an earlier one has that frame's vector."""
    outcome = item.segments[0].outcome_of("image_embedding") if item.segments else None
    if outcome is None or outcome.outcome != "succeeded":
        return
    result = source.result_of(outcome)
    vectors = unpack_vectors(result["vectors"])
    new = [number for number, frame in enumerate(result["frames"]) if frame[3] is None]
    vector_index = {number: index for index, number in enumerate(new)}
    starts = {part.task.segment_id: part.task.planned.span.start_us for part in item.segments}
    for number, (segment_id, time_us, file, same_as) in enumerate(result["frames"]):
        row = ImageEmbeddingRow(
            run_id=source.run_id,
            video_id=item.plan.item.video_id,
            segment_id=segment_id,
            start_us=starts[segment_id],
            time_us=time_us,
            time=seconds_from_us(time_us),
            file=f"{analysis_folder(item.plan.analysis_key or '')}/{file}",
            model=result["model"],
            dimension=vectors.shape[1],
            same_as_us=None if same_as is None else result["frames"][same_as][1],
        )
        yield {**row_of(row), VECTOR: vectors[vector_index[number if same_as is None else same_as]]}


def text_embedding_rows(item: ItemOutcome, source: RowSource) -> Iterator[Row]:
    """Yield the embedded texts of an item, those of its segments first."""
    if source.text_embedder is None or item.text_embedding is None:
        return
    texts = texts_of_item(item, source.context, source.cache)
    embedded = _vectors_of([part.text.text for part in texts], source.text_embedder, source)
    for part in sorted(texts, key=lambda part: (part.start_us is None, part.start_us or 0, part.text.instance)):
        model, vector = embedded.get(part.text.text[:MAX_TEXT_CHARS], ("", None))
        if vector is None or not vector.any():
            continue  # not embedded, or no word is in the model's vocabulary, so no search could match it
        row = TextEmbeddingRow(
            run_id=source.run_id,
            video_id=item.plan.item.video_id,
            segment_id=part.segment_id,
            start_us=part.start_us,
            field=part.text.field,
            instance=part.text.instance,
            text=part.text.text,
            model=model,
            dimension=len(vector),
        )
        yield {**row_of(row), VECTOR: vector}


def _vectors_of(
    texts: Sequence[str], embedder: Provider, source: RowSource
) -> dict[str, tuple[str, NDArray[np.float32]]]:
    """Return (model, vector) of each text whose batch is cached, by the text as embedded."""
    found: dict[str, tuple[str, NDArray[np.float32]]] = {}
    for batch, key in batch_keys(texts, embedder, source.context):
        result = source.cache.get(key)
        if result is not None:
            vectors = unpack_vectors(result["vectors"])
            found |= {text: (result["model"], vectors[index]) for index, text in enumerate(batch)}
    return found
