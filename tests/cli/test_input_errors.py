"""Invalid input of `promptreel run` and of other commands: exit code and message."""

import json

import pytest

from promptreel.providers.known_models import DEFAULT_GEMINI_MODEL
from tests.cli.in_process import invoke


def prompt_file(folder, **changes):
    definition = {
        "name": "mine",
        "prompt_text": "Describe the segment.",
        "json_schema": {"type": "object", "properties": {"summary": {"type": "string"}}},
    }
    path = folder / "prompt.json"
    path.write_text(json.dumps(definition | changes))
    return path


def schema_of(name, kind):
    return {"type": "object", "properties": {name: {"type": kind}}}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--promt", "x"], "no such option --promt; did you mean --prompt?"),
        (["--prompt", "nosuch"], "no prompt 'nosuch': give a JSON file, or one of"),
        (["--prompt", "reserved"], "field name 'transcription' is reserved"),
        (["--prompt", "unknown type"], "field 'age' has the unknown type 'int'; use one of"),
        (["--prompt", "free text", "--model", "signals"], "cannot fill 'summary'"),
        (["--model", "nosuch"], "no provider for model 'nosuch'"),
        (["--model", DEFAULT_GEMINI_MODEL], "needs a key: set GEMINI_API_KEY"),
        (["--video-segment-seconds", "5"], "a length is allowed with fixed segmentation only"),
        (["--hop", "5"], "hop_s is 5, but neither video nor audio segmentation is fixed; set a window length"),
        (["--window", "5", "--hop", "0"], "Invalid value for '--hop': 0 is not in the range 1<=x<=3600"),
        (["--window", "5", "--video-segmentation", "smart"], "--window is 5, but --video-segmentation is 'smart'"),
        (["--window", "5", "--audio-segment-seconds", "6"], "--window is 5 and --audio-segment-seconds is 6; give one"),
        (
            ["--segments-by", "per shot", "--window", "5"],
            "segments_by is 'per shot', but video segmentation is 'fixed'",
        ),
        (["--segments-by", "per shot", "--model", "signals"], "signals cannot mark segments by a definition"),
        (["--start", "later"], "'later' is not a time; use seconds or a clock time, e.g. 90, 1:30"),
        (["--start", "60", "--end", "1:00"], "the range ends at 60 s, but starts at 60 s; it must last at least 0.5 s"),
        (["--fps", "100"], "--fps"),
        (["--resume", "run_none"], "run run_none not found"),
        (["--resume", "../x"], "run id '../x'"),
        (["--resume", "run_x", "--model", "signals", "--fps", "1"], "remove --model --fps"),
        (["--model", DEFAULT_GEMINI_MODEL, "--base-url", "notaurl"], "base_url is 'notaurl'"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_invalid_input_exits_with_2_and_a_fix(tmp_path, media, words, expected):
    if words[0] == "--prompt" and words[1] != "nosuch":
        schema = {"reserved": schema_of("transcription", "string"), "unknown type": schema_of("age", "int")}
        changes = {"json_schema": schema[words[1]]} if words[1] in schema else {}
        words = ["--prompt", str(prompt_file(tmp_path, **changes)), *words[2:]]
    target = [] if "--resume" in words else [media / "b.flac"]
    keyless = {"GEMINI_API_KEY": "", "GOOGLE_API_KEY": ""}
    code, out, err = invoke("run", *target, *words, "--data-dir", tmp_path / "data", env=keyless)
    assert (code, out) == (2, ""), err
    assert expected in err
    assert "Traceback" not in err
    assert not list((tmp_path / "data").glob("runs/*"))


def test_error_names_a_data_folder_that_cannot_be_created(media):
    code, _, err = invoke("run", media / "b.flac", "--data-dir", "/proc/none", "--model", "signals")
    assert (code, "cannot create the folder /proc/none" in err) == (1, True)


def test_data_folder_that_is_a_file_exits_with_1(tmp_path, media):
    (tmp_path / "file").write_text("x")
    for words in (["runs"], ["run", media / "b.flac", "--model", "signals"], ["results"]):
        code, _, err = invoke(*words, "--data-dir", tmp_path / "file")
        assert (code, err.count("\n"), err.startswith("error: ")) == (1, 1, True), err
