"""docs/api.md matches the service: settings, error codes, and the run by curl."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from promptreel.api.config import ApiConfig, RateLimitSettings, config_from_environment, variables
from promptreel.schemas.errors import SettingsError
from tests.api_server import ok_json

pytest_plugins = ["tests.api_fixtures"]

DOCS = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


@pytest.mark.parametrize("name", sorted(variables().values()))
def test_every_setting_is_documented(name):
    assert f"`{name}`" in DOCS


def test_no_unknown_setting_is_documented():
    table = DOCS[DOCS.index("| variable") : DOCS.index("The variables of the models")]
    assert set(re.findall(r"`(PROMPTREEL_[A-Z_]+|DATABASE_URL)`", table)) == set(variables().values())


def test_every_setting_is_read_from_the_environment(tmp_path):
    prices = tmp_path / "prices.json"
    prices.write_text('{"m": {"input": 1, "output": 1}}')
    values = {
        "DATA": "d", "MEDIA_ROOTS": "/a,/b", "MEDIA_BUCKETS": "gs://b", "ALLOW_HTTPS": "no", "MODEL": "signals",
        "ALLOWED_MODELS": "signals", "MODEL_ALIASES": "a=signals", "MODEL_BASE_URL": "http://x", "MAX_RUNNING": "9",
        "MAX_RESUMES": "9", "MAX_UPLOAD_BYTES": "9", "MAX_MEDIA_SECONDS": "9", "MAX_RUN_ITEMS": "9",
        "MAX_RUN_SEGMENTS": "9", "MAX_RUN_TOKENS": "9", "RUN_DEADLINE": "9", "HEARTBEAT": "9", "SUPERVISE": "0",
        "COMMIT_INTERVAL": "9", "MAX_OUTAGE": "9",
        "RATE_SEARCH": "9", "RATE_READ": "9", "RATE_WRITE": "9", "RATE_UPLOAD": "9", "PUBLIC_URL": "http://y/",
        "STRICT_MODELS": "yes", "HEADER_TIMEOUT": "2", "MAX_MEDIA_DAMAGE": "0.5", "MAX_IMAGE_MEGAPIXELS": "9",
        "TRANSCRIPTION_MODEL": "tiny", "TRANSCRIPTION_LANGUAGE": "en, de", "IMAGE_EMBEDDING_MODEL": "local-dir:d",
        "TEXT_EMBEDDING_MODEL": "clip", "TIER": "flex", "FLEX_FALLBACK": "1", "BATCH_DEADLINE": "9",
        "MAX_RUN_COST": "9", "PRICES": str(prices), "LOCAL_ACCOUNT": "user_a",
    }  # fmt: skip
    config = config_from_environment({f"PROMPTREEL_{name}": value for name, value in values.items()})
    with_url = config_from_environment({"DATABASE_URL": "postgres://h/d"})
    assert with_url.sqlalchemy_url == "postgresql+psycopg://h/d"
    for name in ApiConfig.model_fields:
        if name != "database_url":
            assert getattr(config, name) != getattr(ApiConfig(), name), name
    assert config.rate_limits == RateLimitSettings(search=9, read=9, write=9, upload=9)
    assert config.public_url == "http://y"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_RUNNING", "many"),
        ("MAX_RUNNING", "inf"),
        ("MAX_RUNNING", "-1"),
        ("MAX_RUNNING", "2.9"),
        ("MAX_RUNNING", "nan"),
        ("MAX_MEDIA_SECONDS", "nan"),
        ("MAX_MEDIA_SECONDS", "inf"),
        ("RUN_DEADLINE", "-5"),
        ("MAX_RUN_COST", "-5"),
        ("PRICES", "no-such.json"),
        ("RATE_READ", "0"),
        ("MODEL_ALIASES", "fast"),
        ("SUPERVISE", "perhaps"),
        ("HEARTBEAT", "1 s"),
        ("TRANSCRIPTION_LANGUAGE", "English"),
        ("TRANSCRIPTION_MODEL", " "),
    ],
)
def test_an_invalid_setting_is_named(name, value):
    with pytest.raises(SettingsError, match=f"PROMPTREEL_{name} is '{value}'"):
        config_from_environment({f"PROMPTREEL_{name}": value})


def test_the_repr_hides_the_database_url():
    assert "hunter2" not in repr(ApiConfig(database_url="postgresql://u:hunter2@h/d"))


def test_every_error_code_of_the_routes_is_documented():
    code = re.compile(r'ApiError\(\s*(\d{3}),\s*"([a-z_]+)"')
    root = Path(__file__).parents[2] / "api"
    sources = [path for path in root.rglob("*.py") if path.parent.name not in ("search", "sql")]
    found = {match for path in sources for match in code.findall(path.read_text())}
    assert len(found) >= 15
    # Codes of search, SQL and exports are documented on their own pages, `resource_` codes as a pattern.
    elsewhere = ("sql_", "filter_", "search_", "export_", "resource_")
    missing = [name for _, name in found if f"`{name}`" not in DOCS and not name.startswith(elsewhere)]
    assert missing == []


def test_the_documented_run_by_curl_works(service, caller, api_media, tmp_path):
    if not shutil.which("curl") or not shutil.which("jq"):
        pytest.skip("curl or jq is not installed")
    block = DOCS[DOCS.index("## A run by curl") :].split("```bash\n", 1)[1].split("```", 1)[0]
    assert len(block.strip().splitlines()) == 5
    shutil.copy(api_media / "a.mp4", tmp_path / "film.mp4")
    script = "set -euo pipefail\n" + block.replace("http://127.0.0.1:8080", service.base_url)
    environment = {**os.environ, "KEY": caller.key}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '"duration_seconds": 3' in done.stdout
    assert [run["status"] for run in ok_json(caller.get("/prompt-runs"))] == ["completed"]
