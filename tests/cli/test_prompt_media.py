"""`promptreel run` with a prompt that says which media its answers need."""

import json

import pytest

from tests.cli.in_process import FIXED_SEGMENTS, invoke
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import MODEL, make_video, promptreel
from tests.prompts import NESTED


@pytest.mark.parametrize(("options", "sent"), [((), [2, False, "low"]), (("--sound",), [2, True, "low"])])
def test_needs_of_the_prompt_are_frozen_with_the_run(tmp_path, options, sent):
    prompt = {**NESTED.to_dict(), "video_level": None, "media": {"pictures_only": True, "frames_per_segment": 2}}
    (tmp_path / "prompt.json").write_text(json.dumps(prompt))
    make_video(tmp_path / "a.mp4", 8)
    words = ["--data-dir", tmp_path / "data", "--json"]
    with FakeGemini() as server:
        code, out, err = promptreel(
            "run", tmp_path / "a.mp4", "--prompt", tmp_path / "prompt.json", *FIXED_SEGMENTS, *options, *words,
            "--model", MODEL, "--base-url", server.base_url, "--no-text-embedding", "--no-image-embedding",
            "--no-transcription",
        )  # fmt: skip
    assert code == 0, err
    run_id = json.loads(out)["run_id"]
    model = json.loads((tmp_path / "data" / "runs" / run_id / "request.json").read_text())["settings"]["model"]
    assert [model["frames_per_segment"], model["sound"] is not False, model["media_resolution"]] == sent
    calls = "SELECT DISTINCT video_tokens, audio_tokens > 0 AS has_sound FROM llm_calls"
    code, out, err = invoke("sql", calls, *words)
    assert code == 0, err
    assert json.loads(out) == [{"video_tokens": 2 * 70, "has_sound": sent[1]}]
    code, _, err = invoke("run", "--resume", run_id, "--frames-per-segment", 3, "--data-dir", tmp_path / "data")
    assert (code, "--frames-per-segment" in err) == (2, True)
