"""`--prompt -` reads the prompt from standard input."""

import json
import subprocess
import sys

import pytest

from promptreel.schemas.prompt import read_prompt_file
from promptreel.tables.request import read_request
from promptreel.tables.storage import open_storage
from tests.cli.in_process import FIXED_SEGMENTS
from tests.cli.test_input_errors import prompt_file, schema_of

MEASURE = schema_of("duration_seconds", "number")


def promptreel_with_input(content, *words):
    """Run a command with bytes on its standard input, None for a closed one; return (exit code, output, errors)."""
    command = [sys.executable, "-m", "promptreel", *map(str, words), "--model", "signals"]
    if content is None:
        command = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    done = subprocess.run(command, input=content, capture_output=True, check=False, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_run_and_estimate_read_prompt_from_standard_input(tmp_path, media):
    path = prompt_file(tmp_path, name="from a pipe — é", json_schema=MEASURE)
    content = b"\xef\xbb\xbf" + path.read_bytes()  # with a byte order mark, as some editors write
    words = [media / "a film.mp4", "--prompt", "-", *FIXED_SEGMENTS, "--data-dir", tmp_path / "data", "--json"]
    code, out, err = promptreel_with_input(content, "estimate", *words)
    assert code == 0, err
    assert json.loads(out)["segments"] == [2, 2]
    code, out, err = promptreel_with_input(content, "run", *words)
    assert code == 0, err
    run_id = json.loads(out)["run_id"]
    assert read_request(open_storage(str(tmp_path / "data")), run_id).prompt == read_prompt_file(path)


@pytest.mark.parametrize("command", ["run", "estimate"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "error: standard input: is empty; pipe a prompt into it"),
        (None, "error: standard input: is closed; pipe a prompt into it"),
        (b"{", "error: standard input: is not JSON ("),
        (b"\xff\xfe\x00", "error: standard input: is not JSON ("),
        (b"[]", "error: standard input: "),
        (b'{"name": "x"}', "error: standard input: "),
    ],
)
def test_unusable_prompt_on_standard_input_exits_with_2(tmp_path, media, command, content, expected):
    data = tmp_path / "data"
    code, out, err = promptreel_with_input(content, command, media / "b.flac", "--prompt", "-", "--data-dir", data)
    assert (code, out) == (2, ""), err
    assert err.startswith(expected), err
    assert not list(data.glob("runs/*"))
