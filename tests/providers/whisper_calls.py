"""Helpers of the Whisper tests: transcribers and spans in seconds."""

from promptreel.providers.whisper import WhisperTranscriber
from promptreel.schemas.media import TimeSpan
from promptreel.schemas.settings import TranscriptionSettings

SECOND = 1_000_000


def transcriber(model, **settings):
    return WhisperTranscriber(TranscriptionSettings(model=str(model), **settings))


def spans(*seconds):
    return [TimeSpan(round(start * SECOND), round(end * SECOND)) for start, end in seconds]
