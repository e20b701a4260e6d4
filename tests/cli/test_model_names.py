"""A retired or unknown model name on the command line: one clear message with the successor."""

import json

import pytest

from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL, KNOWN_MODELS
from promptreel.providers.registry import MODEL_VARIABLE
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import create_run, make_video, promptreel, settings_for

RETIRED_MODEL = "gemini-2.0-flash"
SUCCESSOR = KNOWN_MODELS[RETIRED_MODEL].successor
MISSING = f"the service does not have model '{RETIRED_MODEL}' (shutdown date 2026-06-01); use {SUCCESSOR} instead ("
RETIRED_EMBEDDER = "text-embedding-004"
UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _set_key(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("media") / "clip.mp4", 4, sound=False)


@pytest.fixture
def start(tmp_path, clip):
    """Start a command over the clip; returns the exit code and standard error."""
    prompt = tmp_path / "prompt.json"
    schema = {"type": "object", "properties": {"summary": {"type": "string"}}}
    prompt.write_text(json.dumps({"name": "mine", "prompt_text": "Describe the segment.", "json_schema": schema}))

    def run(*words, command="run", base_url=None):
        address = ["--base-url", base_url] if base_url else []
        code, _, err = promptreel(command, clip, "--prompt", prompt, *address, *words, "--data-dir", tmp_path / "d")
        return code, err

    return run


def runs_in(data):
    return list((data / "runs").glob("*")) if (data / "runs").exists() else []


@pytest.mark.parametrize("name", [RETIRED_MODEL, f"models/{RETIRED_MODEL}"])
def test_option_with_a_retired_model_is_one_error(tmp_path, start, name):
    with FakeGemini() as server:
        code, err = start("--model", name, base_url=server.base_url)
    assert code == 2
    assert f"error: the service does not have model '{name}' (shutdown date 2026-06-01); use {SUCCESSOR} instead" in err
    assert err.count(SUCCESSOR) == 1
    assert server.ledger.calls() == []
    assert runs_in(tmp_path / "d") == []


def test_variable_with_a_retired_model_is_named_in_the_error(monkeypatch, start):
    monkeypatch.setenv(MODEL_VARIABLE, RETIRED_MODEL)
    with FakeGemini() as server:
        code, err = start(base_url=server.base_url)
    assert code == 2
    assert f"error: {MODEL_VARIABLE}: {MISSING}" in err


def test_text_embedding_option_with_a_retired_model_is_one_error(start):
    with FakeGemini() as server:
        code, err = start("--text-embedding-model", RETIRED_EMBEDDER, base_url=server.base_url)
    assert code == 2
    assert f"model '{RETIRED_EMBEDDER}' (shutdown date 2026-01-14); use gemini-embedding-001 instead" in err
    assert err.count("gemini-embedding-001") == 1


def test_misspelled_name_gets_a_suggestion(start):
    wrong = DEFAULT_GEMINI_MODEL.replace("-lite", "-light")
    with FakeGemini(retired=[wrong]) as server:
        code, err = start("--model", wrong, base_url=server.base_url)
    assert code == 2
    assert f"the service does not have model '{wrong}'; did you mean '{DEFAULT_GEMINI_MODEL}'?" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "gemini-embedding-001"], "only embeds texts; name it with --text-embedding-model instead"),
        (["--text-embedding-model", DEFAULT_GEMINI_MODEL], "does not embed texts; use gemini-embedding-001 instead"),
    ],
    ids=str,
)
def test_model_for_another_use_is_an_error(start, words, message):
    code, err = start(*words, base_url=UNREACHABLE)
    assert code == 2
    assert message in err


@pytest.mark.parametrize("name", [RETIRED_MODEL, RETIRED_EMBEDDER])
def test_estimate_warns_without_a_request(start, name):
    option = "--model" if name == RETIRED_MODEL else "--text-embedding-model"
    known = KNOWN_MODELS[name]
    with FakeGemini() as server:
        code, err = start(option, name, command="estimate", base_url=server.base_url)
    assert (code, server.service.look_ups) == (0, [])
    assert f"model '{name}' has the shutdown date {known.shutdown_date}; use {known.successor} instead" in err
    assert err.count("warning: ") == 1


def test_unreachable_service_does_not_block_the_creation(tmp_path, start):
    code, err = start("--model", RETIRED_MODEL, "--max-outage", 0, "--max-attempts", 1, base_url=UNREACHABLE)
    assert code == 1  # the calls fail
    assert f"warning: model '{RETIRED_MODEL}' has the shutdown date 2026-06-01; use {SUCCESSOR} instead\n" in err
    assert len(runs_in(tmp_path / "d")) == 1


def test_resume_of_a_run_with_a_retired_model_warns_and_commits(tmp_path, clip):
    with FakeGemini() as server:
        run_id = create_run(tmp_path, clip, settings_for(server, model=RETIRED_MODEL, media_input="frames"))
        code, out, err = promptreel("run", "--resume", run_id, "--data-dir", tmp_path, "--json")
    assert code == 1
    assert err.count(f"warning: {MISSING}") == 1
    assert err.count("warning: ") == 1
    assert all(SUCCESSOR in row["message"] for row in json.loads(out)["failures"])


@pytest.mark.parametrize("name", [RETIRED_MODEL, DEFAULT_GEMINI_MODEL])
def test_doctor_checks_the_default_model_and_the_table(tmp_path, monkeypatch, name):
    monkeypatch.setenv(MODEL_VARIABLE, name)
    absent = "gemini-3.6-flash"
    with FakeGemini() as server:
        server.service.retired |= {absent}
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.base_url)
        code, out, err = promptreel("doctor", "--json", "--data-dir", tmp_path)
    checks = {check["name"]: check for check in json.loads(out)}
    default = checks["default model"]
    if name == RETIRED_MODEL:
        assert (code, default["state"]) == (1, "broken")
        assert default["detail"].startswith(MISSING)
    else:
        assert (code, default["state"]) == (0, "ok"), err
    assert checks["model gemini-*"]["detail"].startswith("the service accepts the key and lists ")
    assert checks["known models"]["detail"] == f"not listed by the service: {absent}"


def test_doctor_completes_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", UNREACHABLE)
    code, out, err = promptreel("doctor", "--json", "--data-dir", tmp_path)
    checks = {check["name"]: check for check in json.loads(out)}
    assert code == 0, err
    assert checks["model gemini-*"]["detail"].startswith("a key is set (not verified: ")
