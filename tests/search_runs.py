"""Finished runs for search tests, with real part files, manifests and text embeddings."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from promptreel.api.db.ids import new_id
from promptreel.api.db.models import MediaIndex, RunItem, RunRecord, Video
from promptreel.api.runs.plan import first_summary
from promptreel.providers.text_embedding import WordLlamaEmbedder, texts_of
from promptreel.schemas.arrow import row_of
from promptreel.schemas.field_paths import render_text
from promptreel.schemas.ids import new_run_id
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.settings import RunSettings
from promptreel.schemas.table_rows import SegmentRow
from promptreel.tables.manifest import commit_manifest, newest_manifest
from promptreel.tables.parts import shard_writer
from promptreel.tables.request import RunRequest, TargetItem, write_request
from promptreel.tables.shards import shard_of
from promptreel.tables.table_schemas import table_schemas

SECOND = 1_000_000
NOON = datetime(2026, 4, 20, 12, tzinfo=UTC)

SCENES = prompt_from_dict(
    {
        "name": "scenes",
        "prompt_text": "Describe the segment with everything in it.",
        "json_schema": {
            "type": "object",
            "properties": {
                "summary": {"type": "string"},
                "scene": {"type": "object", "properties": {"location": {"type": "string"}}},
                "people": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"name": {"type": "string"}}},
                },
                "tags": {"type": "array", "items": {"type": "string"}},
                "year": {"type": "integer"},
                "secret": {"type": "string"},
            },
        },
        "video_level": {
            "instructions_text": "Sum the item up.",
            "json_schema": {"type": "object", "properties": {"topic": {"type": "string"}}},
        },
        "semantic_indexing": {"disabled_segment_fields": ["secret"]},
    }
)


class Segment:
    """A segment to write: fields, transcript, and (model, vector) of its frames, one second apart."""

    def __init__(self, metadata=None, transcript="", frames=(), **fields):
        self.metadata = metadata if metadata is not None else fields
        self.transcript = transcript
        self.frames = frames


def segment_id(video_id, number):
    return f"seg_{video_id}_{number:05d}"


def commit_results(
    storage,
    run_id,
    items,
    *,
    prompt=SCENES,
    topics=None,
    settings=None,
    embed=True,
    model=None,
    shards=1,
    attempt=1,
    only=None,
):
    """Write and commit the results of a run; return the manifest.

    Args:
        items: segments by item id; each segment is ten seconds long.
        topics: synthesis by item id.
        embed: whether to embed texts; or a function from texts to float32[n, d].
        only: shards to write; the others keep the parts of the newest manifest, as after a retry.
    """
    settings = settings or RunSettings()
    before = newest_manifest(storage, run_id)
    if before is None:
        request = RunRequest(run_id, prompt, settings, ("x",), NOON.isoformat())
        write_request(storage, request, [TargetItem(f"/x/{v}", v, v) for v in items])
    parts = [part for part in before.parts if only is not None and part.shard not in only] if before else []
    embedder = WordLlamaEmbedder()
    embed_all = embedder.embed if embed is True else embed
    for shard in range(shards):
        members = sorted(video_id for video_id in items if shard_of(video_id, shards) == shard)
        if only is not None and shard not in only:
            continue
        with shard_writer(storage, run_id, shard, table_schemas(prompt)) as writer:
            texts = []
            for video_id in members:
                rows = _rows_of_item(run_id, video_id, items[video_id], prompt, (topics or {}).get(video_id))
                for table, row in rows:
                    (texts.append(row) if table == "text_embeddings" else writer.write(table, row))
            if embed_all and texts:
                vectors = embed_all([row["text"] for row in texts])
                for row, vector in zip(texts, vectors, strict=True):
                    if np.any(vector):
                        named = {"model": model or embedder.name, "dimension": len(vector), "vector": vector}
                        writer.write("text_embeddings", {**row, **named})
            parts += writer.commit()
    return commit_manifest(
        storage, run_id, attempt=attempt, token=f"{run_id}-{attempt}", status="completed", counts={}, parts=parts,
        shards=shards,
    )  # fmt: skip


def _rows_of_item(run_id, video_id, segments, prompt, topic):
    head = {"run_id": run_id, "video_id": video_id}
    for number, segment in enumerate(segments):
        position = {**head, "segment_id": segment_id(video_id, number), "start_us": number * 10 * SECOND}
        segment_row = SegmentRow(**{
            **position, "media_type": "video", "segment_number": number, "end_us": position["start_us"] + 10 * SECOND,
            "start_time": number * 10.0, "end_time": number * 10.0 + 10, "start_reason": "cut", "start_score": 1.0,
            "end_reason": "cut", "end_score": 1.0, "status": "succeeded", "field_extraction": "succeeded",
            "transcription": "succeeded", "image_embedding": "succeeded",
        })  # fmt: skip
        yield "segments", row_of(segment_row)
        text = render_text(segment.metadata, prompt.leaves)
        yield "results", {
            **position, "prompt_id": "prompt_1", "model": "m", "media_type": "video",
            "end_us": position["start_us"] + 10 * SECOND, "start_time": number * 10.0, "end_time": number * 10.0 + 10,
            "metadata": json.dumps(segment.metadata), "metadata_text": text, "warning": None, "reused": False,
            "operation_key": "k", "llm_call_ids": [], "executed_at": NOON.isoformat(), "fields": segment.metadata,
        }  # fmt: skip
        if segment.transcript:
            yield "transcripts", {
                **position, "model": "w", "language": "en", "end_us": position["start_us"] + 10 * SECOND,
                "text": segment.transcript, "words": [],
            }  # fmt: skip
        for at, (model, vector) in enumerate(segment.frames):
            yield "image_embeddings", {
                **position, "time_us": position["start_us"] + at * SECOND, "time": number * 10.0 + at, "file": f"{at}.jpg",
                "model": model, "dimension": len(vector), "same_as_us": None, "vector": vector,
            }  # fmt: skip
        disabled = prompt.semantic_indexing.disabled_segment_fields
        for part in texts_of(segment.metadata, text, segment.transcript, prompt.leaves, disabled):
            yield "text_embeddings", {**position, "field": part.field, "instance": part.instance, "text": part.text}
    if topic is not None:
        metadata = {"topic": topic}
        text = render_text(metadata, prompt.video_level.leaves)
        yield "video_results", {
            **head, "prompt_id": "prompt_1", "model": "m", "media_type": "video", "metadata": json.dumps(metadata),
            "metadata_text": text, "warning": None, "segment_count": len(segments), "covered_segments": len(segments),
            "covered_share": 1.0, "omitted_segment_ids": [], "template_fields": [], "source_fingerprint": "f",
            "rendered_prompt_chars": 1, "reused": False, "operation_key": "k", "llm_call_ids": [],
            "executed_at": NOON.isoformat(), "fields": metadata,
        }  # fmt: skip
        for part in texts_of(metadata, text, "", prompt.video_level.leaves):
            position = {"segment_id": None, "start_us": None}
            yield (
                "text_embeddings",
                {**head, **position, "field": part.field, "instance": part.instance, "text": part.text},
            )


class Shelf:
    """Creates indexes, media and finished runs of an account directly in the database and the data folder."""

    def __init__(self, database, storage, account_id):
        self.database, self.storage, self.account_id = database, storage, account_id
        self._runs = 0

    def index(self):
        index_id = new_id("idx")
        with self.database.write() as session:
            session.add(MediaIndex(index_id=index_id, account_id=self.account_id, name="films", created_at=NOON))
        return index_id

    def run(self, index_id, items, *, settings=None, prompt=SCENES, status="completed", **options):
        """Create a run with committed results, one minute after the previous run."""
        run_id = new_run_id()
        settings = settings or RunSettings()
        self._runs += 1
        manifest = commit_results(self.storage, run_id, items, settings=settings, prompt=prompt, **options)
        with self.database.write() as session:
            for video_id in items:
                if session.get(Video, video_id) is None:
                    session.add(self._video(video_id, index_id))
            session.add(
                RunRecord(
                    run_id=run_id, account_id=self.account_id, prompt_id="prompt_1", prompt_name=prompt.name,
                    prompt=prompt.to_dict(), settings=settings.to_dict(), target={"type": "index"}, index_id=index_id,
                    status=status, summary=first_summary(prompt, settings, []), completed_at=NOON,
                    created_at=NOON + timedelta(minutes=self._runs), manifest_number=manifest.number,
                )
            )  # fmt: skip
            session.flush()
            for index, video_id in enumerate(items):
                session.add(RunItem(run_id=run_id, video_id=video_id, position=index))
        return run_id

    def recommit(self, run_id, items, attempt=2, **options):
        """Commit another manifest of a run and update the database."""
        manifest = commit_results(self.storage, run_id, items, attempt=attempt, **options)
        with self.database.write() as session:
            session.get(RunRecord, run_id).manifest_number = manifest.number
        return manifest

    def delete(self, video_id):
        with self.database.write() as session:
            session.get(Video, video_id).deletion_id = new_id("deletion")

    def _video(self, video_id, index_id):
        return Video(
            video_id=video_id, account_id=self.account_id, index_id=index_id, title=f"{video_id}.mp4",
            video_uri=f"media://{video_id}", media_uri=f"/x/{video_id}", source_kind="upload", media_type="video",
            duration_us=60 * SECOND, size_bytes=1, status="processed", created_at=NOON, updated_at=NOON,
        )  # fmt: skip


def settings_with(**changes):
    return replace(RunSettings(), **changes)
