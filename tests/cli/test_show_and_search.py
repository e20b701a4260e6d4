"""`promptreel show` and `promptreel search` on finished runs."""

import json

import pytest

from promptreel.tables.storage import open_storage
from tests.cli.in_process import invoke
from tests.fake_gemini import FakeGemini
from tests.pipeline_runs import make_image, make_video, run_media, settings_for, with_models
from tests.prompts import NESTED
from tests.synthetic_runs import make_run, segment_id
from tests.transforms.test_embed_texts import MEASURED


@pytest.fixture(scope="module", autouse=True)
def _key():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEMINI_API_KEY", "any")
        yield


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """(data folder, run id) of a run with a fake service over two videos and a file that cannot be read."""
    folder = tmp_path_factory.mktemp("show")
    make_video(folder / "media" / "harbour one.mp4", 2)
    make_video(folder / "media" / "harbour two.mp4", 2, "smptebars")
    (folder / "media" / "broken.mp4").write_text("no film")
    with FakeGemini() as server:
        settings = with_models(settings_for(server, media_input="frames"))
        run_id = run_media(folder / "data", folder / "media", settings, NESTED)
    return folder / "data", run_id


def show(answered, *words):
    data, run_id = answered
    code, out, err = invoke("show", run_id, *words, "--data-dir", data)
    assert code == 0, err
    return out


def test_item_is_shown_with_segments_and_synthesis(answered):
    out = show(answered, "harbour one")
    assert out.splitlines()[0] == "harbour one.mp4"
    assert "Segment 0  0:00.00–0:01.00  succeeded  from start to " in out
    assert "Segment 1  0:01.00–0:02.00  succeeded" in out
    assert "Synthesis of 2 of 2 segments" in out
    assert "  summary: " in out
    assert "Call " not in out


def test_segment_is_shown_with_the_calls_behind_its_answer(answered):
    body = json.loads(show(answered, "harbour one.mp4", "1", "--json"))
    (segment,), (call,) = body["segments"], body["calls"]
    assert (segment["segment_number"], call["segment_id"]) == (1, segment["segment_id"])
    assert segment["result"]["llm_call_ids"] == [call["llm_call_id"]]
    assert isinstance(segment["result"]["metadata"], dict)
    out = show(answered, "harbour one.mp4", segment["segment_id"][:12])
    assert f"Call {call['llm_call_id']}  metadata_extraction, attempt 1: success" in out
    assert f"tokens: {call['input_tokens']:,} in" in out
    assert "Segment 0" not in out
    assert "--full shows all" in out
    full = show(answered, "harbour one.mp4", "1", "--full")
    assert " ".join(call["request"].split()) in full


def test_failure_is_shown_with_its_fix(answered):
    out = show(answered, "broken")
    assert "media_unsupported: " in out
    assert "    fix: Pass the media files themselves" in out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["harbour"], "'harbour' fits 2 items; give a longer name or the id: harbour one.mp4, harbour two.mp4"),
        (["nothing"], "no item 'nothing'; the run has broken.mp4, harbour one.mp4, harbour two.mp4"),
        (["harbour one", "7"], "no segment '7'; harbour one.mp4 has the segments 0 to 1"),
    ],
)
def test_unknown_and_ambiguous_names_are_rejected(answered, words, problem):
    data, run_id = answered
    code, out, err = invoke("show", run_id, *words, "--data-dir", data)
    assert (code, out, err.strip()) == (2, "", f"error: {problem}")


def test_reused_answer_names_its_earlier_call(tmp_path):
    image = make_image(tmp_path / "a.png")
    with FakeGemini() as server:
        settings = with_models(settings_for(server, media_input="frames"))
        run_media(tmp_path / "data", image, settings, NESTED)
        second = run_media(tmp_path / "data", image, settings, NESTED)
    _, out, _ = invoke("show", second, "a.png", "0", "--data-dir", tmp_path / "data")
    assert ", reused" in out
    assert "in an earlier run, whose answer is reused" in out


def test_control_characters_of_a_name_are_escaped(tmp_path):
    image = make_image(tmp_path / "a\x1b[2J.png")
    run_id = run_media(tmp_path / "data", image, settings_for(), MEASURED)
    _, out, _ = invoke("show", run_id, "a", "--data-dir", tmp_path / "data")
    assert out.splitlines()[0] == "a\\x1b[2J.png"


@pytest.fixture
def texts(tmp_path):
    storage = open_storage(tmp_path)
    answers = {"vid_a": [{"summary": "A Red boat leaves"}, {"summary": "a red car"}, None]}
    spoken = {segment_id("vid_a", 1): "so " * 60 + "the BOAT is here 100%"}
    return tmp_path, [make_run(storage, answers, spoken=spoken, run_id=f"run_{number}") for number in (1, 2)]


def search(data, *words):
    code, out, err = invoke("search", *words, "--data-dir", data, "--json")
    assert code == 0, err
    return [(hit["run_id"], hit["start_us"], hit["source"]) for hit in json.loads(out)]


def test_search_finds_all_words_in_answers_and_transcripts(texts):
    data, (first, second) = texts
    assert search(data, "red BOAT") == [(run_id, 0, "results") for run_id in (second, first)]
    found = [(0, "results"), (5_000_000, "transcripts")]
    assert search(data, "boat", first) == [(first, *hit) for hit in found]
    assert search(data, "boat", "--limit", 3) == [*((second, *hit) for hit in found), (first, *found[0])]
    assert search(data, "100%", first) == [(first, 5_000_000, "transcripts")]
    assert search(data, "100_") == []


def test_search_prints_names_times_and_excerpts(texts):
    data, (first, _) = texts
    code, out, err = invoke("search", "boat", first, "--data-dir", data)
    rows = [line.split("\t") for line in out.splitlines()]
    assert (code, rows[0]) == (0, ["run", "media", "time", "table", "text"])
    assert rows[1][1:] == ["vid_a.mp4", "0:00.00–0:05.00", "results", "summary: A Red boat leaves"]
    assert rows[2][4].startswith("…")
    assert rows[2][4].endswith("the BOAT is here 100%")
    assert "2 hits" in err
    code, _, err = invoke("search", " ", "--data-dir", data)
    assert (code, "TEXT has no words" in err) == (2, True)
