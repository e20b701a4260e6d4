"""The options that are frozen into the settings of a run, shared by `run` and `estimate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from promptreel.cli.evidence_options import EVIDENCE_OPTIONS, evidence_of
from promptreel.cli.sampling import SAMPLE_OPTIONS, sample_of
from promptreel.cli.segmentation_options import SEGMENTATION_OPTIONS, segmentation_of
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from promptreel.providers.prices import PRICES_VARIABLE, load_prices
from promptreel.providers.registry import default_model
from promptreel.providers.tiers import check_tier_options
from promptreel.schemas.settings import (
    MAX_FRAMES_PER_SEGMENT,
    CallSettings,
    ImageEmbeddingSettings,
    MediaLimits,
    ModelSettings,
    RunSettings,
    SamplingSettings,
    TextEmbeddingSettings,
    TranscriptionSettings,
)

Command = TypeVar("Command", bound=Callable[..., Any])

_SETTINGS = [
    click.option(
        "--model",
        metavar="NAME",
        help="Model: signals (built in), a Gemini name, or openai:NAME. "
        f"[default: PROMPTREEL_MODEL, otherwise {DEFAULT_GEMINI_MODEL} if a key is set, otherwise signals]",
    ),
    *SEGMENTATION_OPTIONS,
    click.option(
        "--transcription/--no-transcription",
        default=True,
        show_default=True,
        help="Transcribe speech if the model's weights are installed.",
    ),
    click.option(
        "--transcription-model",
        default="base",
        show_default=True,
        metavar="NAME|DIR",
        help="Whisper model: a public name, or the path of a folder in CTranslate2 format, e.g. ./mine.",
    ),
    click.option(
        "--language",
        metavar="CODES",
        help="Spoken language, e.g. en, or several to choose from, e.g. en,de. [default: detected along the item]",
    ),
    click.option(
        "--image-embedding/--no-image-embedding",
        default=True,
        show_default=True,
        help="Embed frames if the model's weights are installed.",
    ),
    click.option(
        "--image-embedding-model",
        default="ViT-B-32:datacomp_xl_s13b_b90k",
        show_default=True,
        metavar="ARCH:WEIGHTS",
        help="open-clip model: a public tag or a path (./mine.safetensors) as WEIGHTS, or local-dir:DIR.",
    ),
    click.option(
        "--text-embedding/--no-text-embedding",
        default=True,
        show_default=True,
        help="Embed results and transcripts for semantic search.",
    ),
    click.option(
        "--text-embedding-model",
        default="wordllama",
        show_default=True,
        metavar="NAME",
        help="wordllama, sentence-transformers:NAME (or ./DIR), clip, or a Gemini embedding model.",
    ),
    click.option(
        "--strict-models",
        is_flag=True,
        help="Fail if one of these models cannot be loaded, instead of warning.",
    ),
    click.option(
        "--fps",
        type=click.FloatRange(0.1, 5),
        default=1.0,
        show_default=True,
        help="Frames to sample per second of video.",
    ),
    click.option(
        "--media-input",
        type=click.Choice(["clips", "frames", "files"]),
        default="clips",
        show_default=True,
        help="Input to the model: a small clip, sampled frames, or an uploaded proxy with offsets.",
    ),
    click.option(
        "--frames-per-segment",
        type=click.IntRange(1, MAX_FRAMES_PER_SEGMENT),
        metavar="N",
        help="Send only N frames of each segment of a video, chosen by content. [default: the prompt's, otherwise all "
        "sampled frames]",
    ),
    click.option(
        "--sound/--no-sound",
        default=None,
        help="Send the sound of videos to the model. [default: yes, unless the prompt needs pictures only]",
    ),
    click.option(
        "--media-resolution",
        type=click.Choice(["low", "medium", "high", "ultra_high"]),
        help="Resolution at which the model processes frames. [default: the prompt's, otherwise the service's]",
    ),
    click.option("--temperature", type=click.FloatRange(0, 2), default=0.0, show_default=True),
    click.option(
        "--max-output-tokens",
        type=click.IntRange(1, 65536),
        default=8192,
        show_default=True,
        help="Token limit of one answer.",
    ),
    click.option(
        "--thinking-budget",
        type=int,
        metavar="N",
        help="Thinking tokens, for models before Gemini 3; 0 disables thinking. [default: the service's]",
    ),
    click.option(
        "--thinking-level",
        type=click.Choice(["minimal", "low", "medium", "high"]),
        help="Thinking level, for Gemini 3 and later and openai: models. [default: the service's]",
    ),
    click.option(
        "--base-url",
        metavar="URL",
        help="Address of the model service, e.g. http://127.0.0.1:8000/v1 for a local server.",
    ),
    click.option(
        "--tier",
        type=click.Choice(["standard", "flex", "batch"]),
        default="standard",
        show_default=True,
        help="Service tier of the calls. flex and batch cost half as much: flex calls may be rejected while the service "
        "is busy, batch calls wait for a job of the Batch API (at most 48 hours).",
    ),
    click.option(
        "--flex-fallback",
        is_flag=True,
        help="Make flex calls that the service keeps rejecting at the standard tier, at its price.",
    ),
    click.option(
        "--batch-deadline",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Cancel a batch job that is unfinished after this time, and make its remaining calls at the standard tier, at "
        "its price. [default: wait for the job]",
    ),
    click.option("--vertex-project", metavar="PROJECT", help="Use Vertex AI in this project."),
    click.option("--vertex-location", metavar="REGION", help="Region of Vertex AI."),
    click.option(
        "--max-in-flight",
        type=click.IntRange(1, 1000),
        default=64,
        show_default=True,
        help="Maximum number of concurrent calls.",
    ),
    click.option(
        "--max-calls-per-second",
        type=float,
        metavar="N",
        help="Maximum call rate. [default: adapted to the service]",
    ),
    click.option(
        "--call-deadline",
        type=float,
        default=180.0,
        show_default=True,
        metavar="SECONDS",
        help="Timeout of one attempt at a call; five times as long for flex calls.",
    ),
    click.option(
        "--max-attempts",
        type=click.IntRange(1, 20),
        default=5,
        show_default=True,
        help="Maximum attempts per operation.",
    ),
    click.option(
        "--max-outage",
        type=click.FloatRange(0, 7 * 86_400),
        default=600.0,
        show_default=True,
        metavar="SECONDS",
        help="Wait this long for a service that is down or grants no call, then halt; 0 does not wait.",
    ),
    click.option("--max-tokens", type=int, metavar="N", help="Make no further calls after this many tokens."),
    click.option(
        "--max-cost",
        type=click.FloatRange(min=0, min_open=True),
        metavar="AMOUNT",
        help="Make no further calls after this cost, in the currency of the model's price; calls in flight finish.",
    ),
    click.option(
        "--prices",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help=f"JSON file with prices of models, instead of the published ones. [default: {PRICES_VARIABLE}]",
    ),
    click.option("--run-deadline", type=float, metavar="SECONDS", help="Make no further calls after this time."),
    click.option("--max-media-hours", type=float, default=12.0, show_default=True, help="Reject longer items."),
    click.option(
        "--max-image-megapixels",
        type=click.FloatRange(min=0, min_open=True),
        default=400.0,
        show_default=True,
        help="Reject larger images.",
    ),
    click.option(
        "--max-damage",
        type=click.FloatRange(0, 1),
        default=1.0,
        show_default=True,
        metavar="SHARE",
        help="Fail items of which more than this share is missing or concealed; 1 accepts any damage.",
    ),
    click.option(
        "--commit-interval",
        type=click.FloatRange(0, 3600),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="Make finished segments readable this often during the run; 0 only at its end.",
    ),
    click.option(
        "--fresh", is_flag=True, help="Do not reuse results of earlier runs: make (and pay for) every call again."
    ),
    click.option(
        "--no-field-reuse",
        is_flag=True,
        help="After a change of the schema, request all fields again instead of only the new ones.",
    ),
]


def settings_options(command: Command) -> Command:
    """Add every option that is frozen into a run's settings."""
    for option in reversed([*_SETTINGS, *SAMPLE_OPTIONS, *EVIDENCE_OPTIONS]):
        command = option(command)
    return command


def settings_of(options: dict[str, Any]) -> RunSettings:
    """Build run settings from option values.

    Raises:
        SettingsError: options contradict each other.
    """
    settings = RunSettings(
        segmentation=segmentation_of(options),
        sampling=SamplingSettings(frames_per_second=options["fps"]),
        model=ModelSettings(
            model=options["model"] or default_model(),
            media_input=options["media_input"],
            frames_per_segment=options["frames_per_segment"],
            sound=options["sound"],
            media_resolution=options["media_resolution"],
            temperature=options["temperature"],
            max_output_tokens=options["max_output_tokens"],
            thinking_budget=options["thinking_budget"],
            thinking_level=options["thinking_level"],
            tier=options["tier"],
            base_url=options["base_url"],
            vertex_project=options["vertex_project"],
            vertex_location=options["vertex_location"],
        ),
        calls=CallSettings(
            max_in_flight=options["max_in_flight"],
            max_calls_per_second=options["max_calls_per_second"],
            deadline_s=options["call_deadline"],
            flex_fallback=options["flex_fallback"],
            batch_deadline_s=options["batch_deadline"],
            max_attempts=options["max_attempts"],
            max_outage_s=options["max_outage"],
            max_total_tokens=options["max_tokens"],
            max_cost=options["max_cost"],
            run_deadline_s=options["run_deadline"],
        ),
        transcription=TranscriptionSettings(
            enabled=options["transcription"], model=options["transcription_model"], language=options["language"]
        ),
        image_embedding=ImageEmbeddingSettings(
            enabled=options["image_embedding"], model=options["image_embedding_model"]
        ),
        text_embedding=TextEmbeddingSettings(enabled=options["text_embedding"], model=options["text_embedding_model"]),
        strict_models=options["strict_models"],
        limits=MediaLimits(
            max_duration_s=options["max_media_hours"] * 3600,
            max_image_pixels=round(options["max_image_megapixels"] * 1e6),
            max_damaged_share=options["max_damage"],
        ),
        reuse_results=not options["fresh"],
        reuse_fields=not options["no_field_reuse"],
        dedupe_segments=options["dedupe_segments"],
        commit_interval_s=options["commit_interval"],
        sample=sample_of(options),
        prices=load_prices(options["prices"]),
        evidence=evidence_of(options),
    )
    check_tier_options(settings)
    return settings
