"""Runs with results written by a test: committed tables, and the database rows that assign them to an account."""

import json
from datetime import UTC, datetime, timedelta

from promptreel.api.db.ids import new_id
from promptreel.api.db.models import MediaIndex, RunItem, RunRecord, Video
from promptreel.schemas.field_paths import parse_schema, render_text
from promptreel.schemas.ids import new_run_id
from promptreel.schemas.run_labels import RunLabels
from promptreel.schemas.settings import RunSettings
from promptreel.tables.live_parts import publish_parts
from promptreel.tables.manifest import commit_manifest
from promptreel.tables.parts import shard_writer
from promptreel.tables.request import RunRequest, TargetItem, write_request
from promptreel.tables.shards import shard_of
from promptreel.tables.table_schemas import table_schemas, typed_fields
from tests.prompts import NESTED

WINDOW_US = 5_000_000
FIRST_TIME = datetime(2026, 4, 20, 10, tzinfo=UTC)


def make_run(
    storage, answers, prompt=NESTED, *, run_id=None, prompt_version=None, labels=RunLabels(), owner=None, **options
):
    """Create a run folder with one committed manifest (see `commit`); return the run id.

    Args:
        owner: account of a run of the service; None for a run of the command line.
    """
    run_id = run_id or new_run_id()
    request = RunRequest(
        run_id,
        prompt,
        RunSettings(),
        ("x",),
        FIRST_TIME.isoformat(),
        owner=owner,
        labels=labels,
        prompt_version=prompt_version,
    )
    write_request(storage, request, [TargetItem("/x/a.mp4", "a.mp4")])
    commit(storage, run_id, answers, prompt, **options)
    return run_id


def commit(
    storage, run_id, answers, prompt=NESTED, *, attempt=1, shards=1, window_us=WINDOW_US, cut="a", spoken=None,
    executed_at="2026-04-20T10:00:00Z", syntheses=None, names=None, calls=None,
):  # fmt: skip
    """Commit a manifest of a run.

    Args:
        answers: answers of the segments by video id, in time order; None is a failed segment.
        cut: part of the segment ids; runs with the same value have the same segment ids.
        spoken: transcripts by segment id.
        executed_at: when the answers were given.
        syntheses: answers for items by video id.
        names: file names of items by video id; others are named by their id.
        calls: a text by segment id; each of these segments has a call that sent and returned it.
    """
    schemas, node = table_schemas(prompt), parse_schema(prompt.json_schema)
    parts = []
    for shard in range(shards):
        with shard_writer(storage, run_id, shard, schemas) as writer:
            for video_id in sorted(video_id for video_id in answers if shard_of(video_id, shards) == shard):
                if syntheses and video_id in syntheses:
                    _write_synthesis(writer, schemas, run_id, prompt, video_id, syntheses[video_id])
                _write_item(
                    writer,
                    schemas,
                    run_id,
                    prompt,
                    node,
                    video_id,
                    answers[video_id],
                    window_us,
                    cut,
                    spoken,
                    executed_at,
                    names or {},
                    calls or {},
                )
            parts += writer.commit()
    manifest = commit_manifest(
        storage, run_id, attempt=attempt, token=f"t{attempt}", status="completed", counts={}, parts=parts, shards=shards
    )
    publish_parts(storage, manifest)
    return manifest


def segment_id(video_id, number, cut="a"):
    """Return the id of a segment that `commit` writes."""
    return f"seg_{video_id}_{cut}_{number}"


def _write_item(
    writer, schemas, run_id, prompt, node, video_id, answers, window_us, cut, spoken, executed_at, names, calls
):
    def write(table, **values):
        defaults = {column.name: None if column.nullable else _filler(column.type) for column in schemas[table]}
        known = {name: value for name, value in values.items() if name in defaults}
        writer.write(table, {**defaults, "run_id": run_id, "video_id": video_id, "media_type": "video", **known})

    failed = sum(answer is None for answer in answers)
    write("media", name=names.get(video_id, f"{video_id}.mp4"), status="partial" if failed else "completed",
          segment_count=len(answers), succeeded_segments=len(answers) - failed, failed_segments=failed)  # fmt: skip
    for number, answer in enumerate(answers):
        start, end = number * window_us, (number + 1) * window_us
        position = {"segment_id": segment_id(video_id, number, cut), "start_us": start, "end_us": end,
                 "start_time": start / 1e6, "end_time": end / 1e6, "segment_number": number}  # fmt: skip
        outcome = "failed" if answer is None else "succeeded"
        write("segments", **position, status=outcome, field_extraction=outcome)
        if answer is None:
            write(
                "failures",
                **position,
                operation="field_extraction",
                code="schema_invalid",
                message="no",
                retryable=True,
            )
        else:
            write("results", **position, prompt_id="p", model="m", metadata=json.dumps(answer),
                  metadata_text=render_text(answer, prompt.leaves), executed_at=executed_at,
                  fields=typed_fields(node, answer))  # fmt: skip
        if text := calls.get(position["segment_id"]):
            write("llm_calls", **position, llm_call_id=f"call_{position['segment_id']}", purpose="metadata_extraction",
                  status="success", instruction=text, request=text, response_text=text, model=text,
                  invoked_at=executed_at)  # fmt: skip
        if spoken and position["segment_id"] in spoken:
            write("transcripts", **position, text=spoken[position["segment_id"]])


def _write_synthesis(writer, schemas, run_id, prompt, video_id, answer):
    schema = schemas["video_results"]
    defaults = {column.name: None if column.nullable else _filler(column.type) for column in schema}
    fields = typed_fields(parse_schema(prompt.video_level.json_schema), answer)
    row = {
        "run_id": run_id,
        "video_id": video_id,
        "media_type": "video",
        "metadata": json.dumps(answer),
        "fields": fields,
    }
    writer.write("video_results", {**defaults, **row})


def _filler(kind):
    return {"string": "x", "int64": 0, "double": 0.0, "bool": False}.get(str(kind), [])


class Catalogue:
    """Creates the resources of an account in a service's database."""

    def __init__(self, server, account_id):
        self.database, self.storage, self.account_id = server.app.state.database, server.app.state.storage, account_id
        self._now = FIRST_TIME

    def index(self, name="films"):
        row = MediaIndex(index_id=new_id("idx"), account_id=self.account_id, name=name, created_at=self._tick())
        return self._add(row).index_id

    def video(self, index_id=None, title=None):
        video_id, created_at = new_id("vid"), self._tick()
        row = Video(
            video_id=video_id, account_id=self.account_id, index_id=index_id, title=title or f"{video_id}.mp4",
            video_uri=f"media://{video_id}", media_uri=f"uploads/{video_id}", source_kind="upload", media_type="video",
            duration_us=60_000_000, size_bytes=1, status="processed", created_at=created_at, updated_at=created_at,
        )  # fmt: skip
        return self._add(row).video_id

    def run(self, answers, prompt=NESTED, index_id=None, *, status="completed", prompt_id=None, **options):
        """Create a run of these items, later than all earlier runs; return its id."""
        run_id = make_run(self.storage, answers, prompt, owner=self.account_id, **options)
        created_at = self._tick()
        self._add(
            RunRecord(
                run_id=run_id, account_id=self.account_id, prompt_id=prompt_id or prompt.prompt_id,
                prompt_name=prompt.name, prompt=prompt.to_dict(), settings=RunSettings().to_dict(),
                target={"type": "index", "index_id": index_id} if index_id else {"type": "playground"},
                index_id=index_id, status=status, summary={}, created_at=created_at, completed_at=created_at,
                manifest_number=1,
            ),
            *(RunItem(run_id=run_id, video_id=video_id, position=index) for index, video_id in enumerate(answers)),
        )  # fmt: skip
        return run_id

    def _tick(self):
        self._now += timedelta(seconds=1)
        return self._now

    def _add(self, first, *others):
        with self.database.write() as session:
            session.add(first)
            session.flush()
            session.add_all(others)
        return first
