"""A retired model name in a request or in the service's settings: one clear message with the successor."""

import pytest

from promptreel.api.config import ApiConfig, config_from_environment
from promptreel.api.runs.service_models import setting_warnings
from promptreel.api.sql.draft import draft_query
from promptreel.api.web.errors import ApiError
from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL, KNOWN_MODELS
from promptreel.providers.model_lookup import forget_look_ups
from tests.api_server import MEASURE, WINDOWS, ApiServer
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import make_image

RETIRED = "gemini-2.0-flash"
SUCCESSOR = KNOWN_MODELS[RETIRED].successor
MISSING = f"the service does not have model '{RETIRED}' (shutdown date 2026-06-01); use {SUCCESSOR} instead ("
RETIRED_EMBEDDER = "text-embedding-004"


@pytest.fixture(autouse=True)
def _set_key(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    forget_look_ups()


@pytest.fixture
def service(tmp_path):
    """Return a function that starts the service with settings and returns a function that sends a run."""
    picture = make_image(tmp_path / "media" / "picture.png")
    stops = []

    def start(gemini, **settings):
        server = ApiServer(tmp_path / "data", model_base_url=gemini.base_url, supervise=False, **settings)
        caller = server.__enter__().caller()
        stops.append(server)
        prompt_id, target = caller.prompt(MEASURE), {"type": "videos", "video_ids": [caller.video(picture)]}

        def send(path="execute", **body):
            return caller.post(f"/prompt-runs/{path}", {"prompt_id": prompt_id, "target": target, **WINDOWS, **body})

        return send

    yield start
    for server in stops:
        server.__exit__(None, None, None)


def message_of(response):
    assert response.status_code == 422, response.text
    error = response.json()["error"]
    assert error["message"].count(SUCCESSOR) == 1
    return error["message"]


@pytest.mark.parametrize("path", ["execute", "estimate"])
def test_request_with_a_retired_model_is_one_error(service, path):
    with FakeGemini() as gemini:
        send = service(gemini)
        assert message_of(send(path, processing_model=RETIRED)).startswith(f"processing_model: {MISSING}")
        assert gemini.ledger.calls() == []


def test_alias_of_a_retired_model_is_named(service):
    with FakeGemini() as gemini:
        send = service(gemini, model_aliases={"best": RETIRED})
        message = message_of(send(processing_model="best"))
    assert message.startswith(f"processing_model: 'best' is an alias; {MISSING}")


def test_retired_default_model_names_its_variable(service):
    with FakeGemini() as gemini:
        send = service(gemini, default_model=RETIRED)
        assert message_of(send()).startswith(f"PROMPTREEL_MODEL: {MISSING}")


def test_retired_text_embedding_model_names_its_variable(service):
    with FakeGemini() as gemini:
        response = service(gemini, text_embedding_model=RETIRED_EMBEDDER)(processing_model=DEFAULT_GEMINI_MODEL)
    assert response.status_code == 422
    message = response.json()["error"]["message"]
    start = f"PROMPTREEL_TEXT_EMBEDDING_MODEL: the service does not have model '{RETIRED_EMBEDDER}'"
    assert message.startswith(f"{start} (shutdown date 2026-01-14); use gemini-embedding-001 instead (")


def test_embedding_model_for_a_run_is_an_error(service):
    with FakeGemini() as gemini:
        response = service(gemini)(processing_model="gemini-embedding-001")
    assert response.status_code == 422
    assert "only embeds texts" in response.json()["error"]["message"]


def test_unreachable_service_does_not_block_a_run(service):
    class Unreachable:
        base_url = "http://127.0.0.1:9"

    response = service(Unreachable)(processing_model=RETIRED)
    assert response.status_code == 202, response.text
    warning = f"model '{RETIRED}' has the shutdown date 2026-06-01; use {SUCCESSOR} instead"
    assert response.json()["warnings"] == [warning]


def test_model_is_looked_up_once_for_many_runs(service):
    with FakeGemini() as gemini:
        send = service(gemini)
        for _ in range(3):
            assert send(processing_model=DEFAULT_GEMINI_MODEL).status_code == 202
        assert gemini.service.look_ups == [DEFAULT_GEMINI_MODEL]


def test_run_of_the_built_in_model_sends_nothing(service):
    with FakeGemini() as gemini:
        assert service(gemini)(processing_model="signals").status_code == 202
        assert gemini.service.look_ups == []


def test_settings_with_retired_models_warn_at_the_start():
    names = {
        "PROMPTREEL_MODEL": RETIRED,
        "PROMPTREEL_ALLOWED_MODELS": f"signals,{RETIRED}",
        "PROMPTREEL_MODEL_ALIASES": f"best={RETIRED}",
    }
    config = config_from_environment({**names, "PROMPTREEL_TEXT_EMBEDDING_MODEL": RETIRED_EMBEDDER})
    warning = f"model '{RETIRED}' has the shutdown date 2026-06-01; use {SUCCESSOR} instead"
    of_texts = f"text embedding model '{RETIRED_EMBEDDER}' has the shutdown date 2026-01-14"
    assert setting_warnings(config) == [
        *(f"{name}: {warning}" for name in names),
        f"PROMPTREEL_TEXT_EMBEDDING_MODEL: {of_texts}; use gemini-embedding-001 instead",
    ]
    assert setting_warnings(config_from_environment({})) == []


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        (RETIRED, "model_not_found", MISSING),
        ("gemini-embedding-001", "model_not_configured", "model 'gemini-embedding-001' only"),
    ],
)
def test_sql_draft_by_an_unsuitable_model_is_one_error(model, code, message):
    with FakeGemini() as gemini:
        config = ApiConfig(default_model=model, model_base_url=gemini.base_url)
        with pytest.raises(ApiError) as raised:
            draft_query(config, [], "all", None, lambda query: None)
    assert (raised.value.status, raised.value.code) == (422, code)
    assert raised.value.message.startswith(message)
