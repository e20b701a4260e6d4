"""`--max-cost`, `--prices`, and the money that `run`, its resume, `runs` and the progress line show."""

import json

import pytest

from promptreel.cli.progress import describe
from tests.cli.in_process import invoke
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import MODEL, make_video, promptreel

# Each call costs more than 1.
DEAR = {MODEL: {"input": 20_000, "output": 20_000}}
FAST = ["--no-transcription", "--no-image-embedding", "--no-text-embedding", "--media-input", "frames"]
WINDOWS = ["--video-segmentation", "fixed", "--video-segment-seconds", 1, "--max-in-flight", 1]
PROMPT = {
    "prompt_text": "Describe it.",
    "json_schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "film.mp4", 5, sound=False)


@pytest.fixture
def files(tmp_path):
    prices, prompt = tmp_path / "prices.json", tmp_path / "prompt.json"
    prices.write_text(json.dumps(DEAR))
    prompt.write_text(json.dumps({"name": "describe", **PROMPT}))
    return ["--prompt", prompt], ["--prices", prices]


def run(data, *words):
    code, out, err = promptreel("run", *words, "--data-dir", data, "--json")
    return code, json.loads(out) if out else None, err


def test_cost_limit_and_prices_can_be_changed_by_a_resume(tmp_path, film, files):
    prompt, prices = files
    data = tmp_path / "data"
    with FakeGemini() as server:
        words = [film, *prompt, *WINDOWS, *FAST, "--model", MODEL, "--base-url", server.base_url]
        code, summary, err = run(data, *words, *prices, "--max-cost", 30)
        assert code == 3, err
        assert {row["code"] for row in summary["failures"]} == {"budget_exhausted"}
        assert 30 <= summary["cost"]["amount"] < 90
        assert f"cost {summary['cost']['amount']:.2f} USD" in err.splitlines()[-1]
        (listed,) = json.loads(invoke("runs", "--data-dir", data, "--json")[1])
        assert listed["cost"] == summary["cost"]
        assert f"{summary['cost']['amount']:.2f} USD" in invoke("runs", "--data-dir", data)[1]

        euros = tmp_path / "euros.json"
        euros.write_text(json.dumps({MODEL: {"input": 1, "output": 1, "currency": "EUR"}}))
        code, _, err = run(data, "--resume", summary["run_id"], "--prices", euros)
        assert (code, "has costs in USD" in err) == (2, True), err
        code, resumed, err = run(data, "--resume", summary["run_id"], *prices, "--max-cost", 100_000)
        assert (code, resumed["status"]) == (0, "completed"), err
        assert "max_cost: 30.0 -> 100000.0" in err
        assert "prices: 1 entry -> 1 entry" in err
        assert resumed["cost"]["amount"] > summary["cost"]["amount"]
        assert server.ledger.repeated() == 0


def test_unknown_price_with_a_cost_limit_is_an_error(tmp_path, film, files):
    prompt, _ = files
    words = ["run", film, *prompt, "--model", "gemini-99-unseen", "--data-dir", tmp_path / "data", "--max-cost", "5"]
    code, _, err = invoke(*words)
    assert code == 2
    assert "price of model 'gemini-99-unseen' is unknown; give it with --prices FILE" in err
    assert not (tmp_path / "data" / "runs").exists()


def test_invalid_prices_are_an_error_that_names_the_file(tmp_path, film):
    broken = tmp_path / "broken.json"
    broken.write_text('{"m": {"input": "cheap", "output": 1}}')
    words = ["run", film, "--model", "signals", "--data-dir", tmp_path / "data"]
    for code, _, err in (invoke(*words, "--prices", broken), invoke(*words, env={"PROMPTREEL_PRICES": str(broken)})):
        assert (code, "broken.json: m: input is 'cheap'" in err) == (2, True)


def test_progress_line_shows_money_or_that_it_is_unknown():
    counts = {"calls": 3, "total_tokens": 900}
    assert "cost" not in describe(counts, 1)
    assert describe({**counts, "cost_nanos.USD": 1_250_000_000}, 1).endswith("tokens 900, cost 1.25 USD")
    assert describe({**counts, "calls.unpriced": 3}, 1).endswith(
        "cost unknown (3 calls of a model without a known price)"
    )
