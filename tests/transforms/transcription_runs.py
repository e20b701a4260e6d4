"""Prompt, settings and cache lookup of the transcription tests."""

from promptreel.schemas.prompt import prompt_from_dict
from tests.pipeline_runs import settings_for, with_models

SPOKEN = {
    "name": "spoken",
    "prompt_text": "Measure the segment.",
    "json_schema": {
        "type": "object",
        "properties": {
            "transcript": {"type": "string"},
            "word_count": {"type": "integer"},
            "duration_seconds": {"type": "number"},
        },
    },
}
SPOKEN_PROMPT = prompt_from_dict(SPOKEN)


def transcription_settings(model, window_s=2):
    return with_models(settings_for(window_s=window_s), whisper=model)


def stored_operations(data):
    return list((data / "cache" / "operations").rglob("*.json"))
