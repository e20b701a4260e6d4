"""`promptreel estimate` and `promptreel doctor`."""

import json
import os

from tests.cli.in_process import FIXED_SEGMENTS, invoke
from tests.prompts import NESTED


def test_estimate_prints_the_same_counts_as_text_and_json(tmp_path, media):
    code, out, _ = invoke("estimate", media, *FIXED_SEGMENTS, "--data-dir", tmp_path, "--json", "--model", "gemini-x")
    found = json.loads(out)
    assert (code, found["segments"], found["model_calls"]) == (0, [4, 4], [6, 6])
    code, out, err = invoke("estimate", media, *FIXED_SEGMENTS, "--data-dir", tmp_path, "--model", "gemini-x")
    assert (code, "segments 4, model calls 6, reused 0" in err) == (0, True)
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


def test_estimate_shows_money_its_price_and_that_it_is_uncalibrated(tmp_path, media):
    words = ["estimate", media, *FIXED_SEGMENTS, "--data-dir", tmp_path, "--no-text-embedding"]
    code, out, _ = invoke(*words, "--model", "gemini-3.5-flash-lite", "--json")
    cost = json.loads(out)["cost"]
    assert code == 0
    assert 0 < cost["low"] < cost["expected"] < cost["high"]
    assert (cost["currency"], cost["tier"], cost["price_date"]) == ("USD", "standard", "2026-10-15")
    code, _, err = invoke(*words, "--model", "gemini-3.5-flash-lite")
    assert f"cost: {cost['expected']:.4f} USD (" in err
    assert "prices of ai.google.dev/gemini-api/docs/pricing, 2026-10-15" in err
    assert "not calibrated" in err


def test_estimate_says_that_a_price_is_unknown_until_given(tmp_path, media):
    words = ["estimate", media, *FIXED_SEGMENTS, "--data-dir", tmp_path, "--no-text-embedding", "--model", "gemini-x"]
    code, out, _ = invoke(*words, "--json")
    assert (code, json.loads(out)["cost"]) == (0, None)
    assert "cost: unknown, because the price of gemini-x" in invoke(*words)[2]
    prices = tmp_path / "prices.json"
    prices.write_text('{"gemini-x": {"input": 1, "output": 2, "currency": "EUR"}}')
    code, out, _ = invoke(*words, "--prices", prices, "--json")
    assert (code, json.loads(out)["cost"]["currency"]) == (0, "EUR")
