"""The form that runs a prompt: its fields, the request that they make, and the media that can be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Query, Request
from pydantic import ValidationError
from sqlalchemy.orm import Session

from promptreel.api.config import ApiConfig
from promptreel.api.db.models import Video
from promptreel.api.site.form_problems import FormProblem, invalid_values
from promptreel.api.site.index_list import ListedIndex, index_list
from promptreel.api.site.scopes import PLAYGROUND_NAME
from promptreel.api.uploads.media_rows import videos_in
from promptreel.api.web.auth import Principal
from promptreel.providers.known_models import KNOWN_MODELS
from promptreel.providers.registry import default_model
from promptreel.schemas.wire.prompt_runs import ExecuteRun

MAX_CHOICES: Final = 100  # items that can be chosen one by one

Value = Annotated[str, Query(max_length=2_000)]


@dataclass(frozen=True, slots=True)
class RunForm:
    """The fields of the form as text.

    Attributes:
        step: empty, `choose` (the items) or `estimate`.
        index: id of an index, or `playground`.
        items_of: the index that the chosen items belong to; those of another one are ignored.
        items: ids of chosen items; empty for all.
    """

    step: str = ""
    index: str = ""
    items_of: str = ""
    items: tuple[str, ...] = ()
    model: str = ""
    video: str = "smart"
    video_seconds: str = ""
    audio: str = "content_aware"
    audio_seconds: str = ""
    definition: str = ""
    transcription: bool = True
    embedding: bool = True
    dedupe: bool = False
    evidence: bool = False
    name: str = ""

    @property
    def chosen(self) -> tuple[str, ...]:
        """The chosen items of the index."""
        return self.items if self.items_of == self.index else ()


@dataclass(frozen=True, slots=True)
class RunChoices:
    """What the form offers.

    Attributes:
        items: (id, title, type) of the newest items of the chosen index.
        models: the models that the service allows, or examples of models if it allows all.
    """

    media: tuple[ListedIndex, ...]
    items: tuple[tuple[str, str, str], ...]
    models: tuple[str, ...]
    allows_other_models: bool
    default_model: str


async def entered_run(
    request: Request,
    step: Value = "",
    index: Value = "",
    items_of: Value = "",
    item: Annotated[list[str] | None, Query(max_length=MAX_CHOICES)] = None,
    model: Value = "",
    video: Value = "smart",
    video_seconds: Value = "",
    audio: Value = "content_aware",
    audio_seconds: Value = "",
    definition: Value = "",
    name: Value = "",
) -> RunForm:
    """Read the form from the query of a request. A browser does not send a box that is not checked."""
    sent = request.query_params
    return RunForm(
        step=step,
        index=index,
        items_of=items_of,
        items=tuple(dict.fromkeys(item or ())),
        model=model.strip(),
        video=video,
        video_seconds=video_seconds.strip(),
        audio=audio,
        audio_seconds=audio_seconds.strip(),
        definition=definition.strip(),
        transcription="transcription" in sent or not step,
        embedding="embedding" in sent or not step,
        dedupe="dedupe" in sent,
        evidence="evidence" in sent,
        name=name.strip(),
    )


def run_request(prompt_id: str, form: RunForm) -> tuple[ExecuteRun | None, tuple[FormProblem, ...]]:
    """Return the request in a form, or None with everything that is wrong with it."""
    body = {
        "prompt_id": prompt_id,
        "target": _target(form),
        "video_segmentation_type": form.video,
        "audio_segmentation_type": form.audio,
        "video_segment_duration": _seconds(form.video_seconds) if form.video == "fixed" else None,
        "audio_segment_duration": _seconds(form.audio_seconds) if form.audio == "fixed" else None,
        "processing_model": form.model or None,
        "enable_transcription": form.transcription,
        "enable_image_embedding": form.embedding,
        "segment_options": {"definition": form.definition or None, "dedupe": form.dedupe},
        "evidence": {} if form.evidence else None,
        "name": form.name or None,
    }
    try:
        return ExecuteRun.model_validate(body), ()
    except ValidationError as error:
        return None, invalid_values(error)


def run_choices(session: Session, caller: Principal, form: RunForm, config: ApiConfig) -> RunChoices:
    """Return what the form offers."""
    items: Sequence[Video] = ()
    if form.step == "choose" or form.chosen:
        index_id = None if form.index == PLAYGROUND_NAME else form.index
        newest = videos_in(caller, index_id).order_by(Video.created_at.desc(), Video.video_id.desc())
        items = session.scalars(newest.limit(MAX_CHOICES)).all()
    allowed = (*config.model_aliases, *config.models)
    return RunChoices(
        media=index_list(session, caller),
        items=tuple((item.video_id, item.title, item.media_type) for item in items),
        models=allowed if config.models else _known_models(),
        allows_other_models=not config.models,
        default_model=config.default_model or default_model(),
    )


def _known_models() -> tuple[str, ...]:
    """Return names that help to fill in the field; other models are allowed too."""
    known = KNOWN_MODELS.values()
    return ("signals", *(model.name for model in known if model.use == "answers" and model.shutdown_date is None))


def _target(form: RunForm) -> dict[str, Any]:
    is_playground = form.index == PLAYGROUND_NAME
    if form.chosen:
        index_id = {} if is_playground else {"index_id": form.index}
        return {"type": "videos", "video_ids": list(form.chosen), **index_id}
    return {"type": "playground"} if is_playground else {"type": "index", "index_id": form.index}


def _seconds(text: str) -> Any:
    """Return a number of seconds; text that is none stays as it is, to be rejected."""
    try:
        return int(text)
    except ValueError:
        return text or None
