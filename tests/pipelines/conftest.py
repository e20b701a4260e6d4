"""Shared by all tests of this folder: the API key, and settings for many cheap calls."""

import pytest

from tests.pipeline_runs import settings_for


@pytest.fixture(scope="module", autouse=True)
def _gemini_key():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEMINI_API_KEY", "any")
        yield


def frame_settings(server, **calls):
    """Return settings that send frames, which are cheaper to produce than clips."""
    return settings_for(server, media_input="frames", **calls)
