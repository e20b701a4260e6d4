"""Speech media and a tiny Whisper model for the transcription tests."""

import pytest

from tests.media_files import silence, write_sound
from tests.pipeline_runs import make_image, make_speech, make_video
from tests.tiny_models import make_whisper


@pytest.fixture(scope="module")
def tiny_whisper(tmp_path_factory):
    return make_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Speech with and without pictures, pictures without sound, an image, and silence."""
    folder = tmp_path_factory.mktemp("media")
    make_speech(folder / "talk.mp4", 7, 1, "testsrc2=size=160x90:rate=10")
    make_speech(folder / "voice.flac", 5, 2)
    make_video(folder / "mute.mp4", 2, sound=False)
    make_image(folder / "still.png")
    write_sound(folder / "quiet.flac", silence(4))
    return folder
