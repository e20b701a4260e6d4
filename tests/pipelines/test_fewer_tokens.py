"""A prompt that needs pictures only costs at most a third of the tokens, at equal answers.

The service answers from the pictures that it received, so an answer is right only if they show what it names.
"""

import json
from dataclasses import replace

import pytest

from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.prompt_media import PromptMedia, settings_for_prompt
from tests.fake_gemini import FakeGemini
from tests.fake_openai import FakeOpenAI
from tests.labelled_films import Scene, labels_in, labels_of, sent_pictures, write_scenes
from tests.pipeline_runs import check_counts, run_media, settings_for, with_models

FAMILIES = ["gemini-2.5-flash-lite", "gemini-3.5-flash-lite", "gemini-3.8-flash"]
WINDOW_S = 30
SIGNS = prompt_from_dict(
    {
        "name": "signs",
        "prompt_text": "List every sign that the segment shows: the colour of its background and its number.",
        "json_schema": {
            "type": "object",
            "properties": {"signs": {"type": "array", "items": {"type": "string"}}},
            "required": ["signs"],
        },
    }
)
PICTURES_ONLY = replace(SIGNS, media=PromptMedia(pictures_only=True))
# Segments of one to four scenes: a long take, quick cuts after a take, a sign that changes on the same background, and
# scenes that go on in the next segment.
FILMS = {
    "takes.mp4": [Scene(30, "red", 5), Scene(30, "grey", 44), Scene(30, "blue", 63)],
    "cuts.mp4": [
        *(Scene(21, "green", 9), Scene(3, "violet", 33), Scene(2, "yellow", 12), Scene(4, "red", 50)),
        *(Scene(2, "blue", 1), Scene(26, "grey", 30), Scene(2, "green", 7)),
    ],
    "captions.mp4": [
        *(Scene(13, "grey", 0), Scene(3, "grey", 21), Scene(14, "grey", 0)),
        *(Scene(19, "yellow", 40), Scene(11, "yellow", 11)),
    ],
    "across.mp4": [Scene(17, "violet", 60), Scene(25, "green", 3), Scene(8, "red", 18), Scene(10, "blue", 36)],
}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for name, scenes in FILMS.items():
        write_scenes(folder / name, scenes)
    return folder


def answer_from_pictures(body, schema):
    return {"signs": labels_in(sent_pictures(body))}


def run_films(data, films, server, prompt, model, media_input="clips", scenes=FILMS, **changes):
    """Run a prompt; return (share of segments with the right answer, tokens of the calls that the service counted)."""
    settings = with_models(settings_for(server, window_s=WINDOW_S, model=model, media_input=media_input))
    settings = replace(settings, model=replace(settings.model, **changes))
    rows = check_counts(data, run_media(data, films, settings_for_prompt(settings, prompt.media), prompt))
    names = {row["video_id"]: row["name"] for row in rows["media"]}
    times = {row["segment_id"]: (row["start_us"] / 1e6, row["end_us"] / 1e6) for row in rows["segments"]}
    assert len(rows["results"]) == len(times) > 0
    right = 0
    for row in rows["results"]:
        right += json.loads(row["metadata"])["signs"] == labels_of(
            scenes[names[row["video_id"]]], *times[row["segment_id"]]
        )
    return right / len(times), sum(call["total_tokens"] for call in rows["llm_calls"])


@pytest.mark.parametrize("model", FAMILIES)
def test_pictures_only_costs_a_third_at_equal_answers(tmp_path, films, model):
    with FakeGemini(answer=answer_from_pictures) as server:
        right, complete = run_films(tmp_path, films, server, SIGNS, model)
        assert right == 1
        right, chosen = run_films(tmp_path, films, server, PICTURES_ONLY, model)
        assert right == 1
    print(f"\n{model}: {chosen} of {complete} tokens, {chosen / complete:.0%}")
    assert chosen <= complete / 3


def test_other_servers_get_the_chosen_frames_too(tmp_path, films):
    with FakeOpenAI(answer=answer_from_pictures) as server:
        right, complete = run_films(tmp_path, films, server, SIGNS, "openai:tiny")
        assert right == 1
        right, chosen = run_films(tmp_path, films, server, PICTURES_ONLY, "openai:tiny")
        assert right == 1
    assert chosen <= complete / 3


@pytest.mark.parametrize("media_input", ["clips", "frames"])
def test_more_shots_than_frames_need_more_frames(tmp_path, media_input):
    scenes = {"busy.mp4": [Scene(5, colour, 10 + n) for n, colour in enumerate(("red", "green", "blue") * 2)]}
    (tmp_path / "media").mkdir()
    write_scenes(tmp_path / "media" / "busy.mp4", scenes["busy.mp4"])
    with FakeGemini(answer=answer_from_pictures) as server:
        run = (server, PICTURES_ONLY, FAMILIES[1], media_input, scenes)
        right, few = run_films(tmp_path / "few", tmp_path / "media", *run)
        assert right == 0
        right, more = run_films(tmp_path / "more", tmp_path / "media", *run, frames_per_segment=6)
        assert right == 1
        assert more > few
