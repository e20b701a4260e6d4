"""`promptreel estimate` and `promptreel doctor`."""

import json
import os

from tests.cli.in_process import FIXED_SEGMENTS, invoke
from tests.prompts import NESTED


def test_estimate_prints_the_same_counts_as_text_and_json(tmp_path, media):
    code, out, _ = invoke("estimate", media, *FIXED_SEGMENTS, "--data-dir", tmp_path, "--json", "--model", "gemini-x")
    found = json.loads(out)
    assert (code, found["segments"], found["model_calls"]) == (0, [4, 4], [6, 6])
    code, out, _ = invoke("estimate", media, *FIXED_SEGMENTS, "--data-dir", tmp_path, "--model", "gemini-x")
    assert (code, "segments 4, model calls 6, reused 0" in out) == (0, True)
    assert "text file" in out
    assert not (tmp_path / "runs").exists()


def test_prompt_that_needs_pictures_only_is_estimated_without_sound(tmp_path, media):
    def tokens(definition, *options):
        (tmp_path / "prompt.json").write_text(json.dumps(definition))
        words = ["--prompt", tmp_path / "prompt.json", *FIXED_SEGMENTS, "--model", "gemini-3.5-flash-lite", *options]
        code, out, err = invoke("estimate", media, *words, "--data-dir", tmp_path, "--json")
        assert code == 0, err
        return json.loads(out)["input_tokens"]

    prompt = {**NESTED.to_dict(), "video_level": None}
    chosen = tokens({**prompt, "media": {"pictures_only": True, "frames_per_segment": 1}})
    assert chosen == tokens(prompt, "--frames-per-segment", 1, "--no-sound", "--media-resolution", "low")
    complete = tokens(prompt)
    assert chosen["video"] < complete["video"]
    assert chosen.get("audio", 0) < complete["audio"]


def test_doctor_checks_ffmpeg_and_models(tmp_path):
    code, out, _ = invoke("doctor", "--data-dir", tmp_path, "--json", env={"GEMINI_API_KEY": ""})
    checks = {check["name"]: check for check in json.loads(out)}
    assert checks["ffmpeg"]["state"] == "ok"
    assert "export GEMINI_API_KEY" in checks["model gemini-*"]["fix"] or os.environ.get("GOOGLE_API_KEY")
    assert code == (1 if any(check["state"] == "broken" for check in checks.values()) else 0)
