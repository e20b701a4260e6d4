"""Text of models, files and users never becomes markup."""

import dataclasses
import re
import types
import typing

import pytest

from promptreel.pages.items import ItemPart
from promptreel.pages.overview import RunOverview
from promptreel.pages.report import ReportPage, write_report
from promptreel.pages.templating import encode, render
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.run_labels import RunLabels
from promptreel.tables.reader import committed_run
from promptreel.tables.storage import open_storage
from tests.pages.html_facts import Page, check_page, read_page
from tests.pages.payloads import PAYLOADS
from tests.prompts import NESTED
from tests.synthetic_runs import make_run, segment_id

# Attributes that never contain text of others.
FIXED = ("href", "src", "id", "http-equiv", "content", "xmlns", "style", "role", "scope", "aria-labelledby")


def filled(kind, text):
    """Return a value of a type with `text` in every text of it."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: filled(hints[field.name], text) for field in dataclasses.fields(kind)})
    if typing.get_origin(kind) is tuple:
        parts = [part for part in typing.get_args(kind) if part is not ...]
        return tuple(filled(part, text) for part in parts)
    if isinstance(kind, types.UnionType):
        return filled(typing.get_args(kind)[0], text)
    return {str: text, int: 1, float: 1.0, bool: True}[kind]


def pages_with(text):
    """Return a report in one file and a page of one in several, with `text` in every text of their view models."""
    run, item = filled(RunOverview, text), filled(ItemPart, text)
    html = types.SimpleNamespace(__html__=lambda: render("item.html", item=item, pictures={}))
    page = ReportPage(1, first_name=text, last_name=text)
    return [
        Page(encode(render("report.html", run=run, items=[html], pages=[])).decode()),
        Page(encode(render("report.html", run=run, items=[], pages=[page])).decode()),
        Page(
            encode(
                render("report_page.html", run=run, items=[html], page=page, previous="page-0001.html", next=None)
            ).decode()
        ),
    ]


@pytest.fixture(scope="module")
def harmless():
    return pages_with("word")


def test_corpus_is_large_enough():
    assert len(set(PAYLOADS)) >= 50


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_payload_in_any_text_adds_no_markup(payload, harmless):
    for page, expected in zip(pages_with(payload), harmless, strict=True):
        check_page(page)
        assert page.structure == expected.structure
        for name in FIXED:
            assert page.attributes(name) == expected.attributes(name)
        assert all(re.fullmatch(r"[a-z_ -]*", value) for name in ("class", "lang") for value in page.attributes(name))
        shown = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", payload)
        assert " ".join(shown.split()) in page.text


def test_payloads_in_names_answers_and_transcripts_stay_text(tmp_path):
    storage = open_storage(tmp_path / "data")
    answers = {f"{number:03d}{payload}": [answer(payload), None] for number, payload in enumerate(PAYLOADS)}
    spoken = {segment_id(video_id, 0): video_id[3:] for video_id in answers}
    prompt = prompt_from_dict({**NESTED.to_dict(), "name": PAYLOADS[0]})
    labels = RunLabels(PAYLOADS[7], {"a": PAYLOADS[9]})
    syntheses = {video_id: {"topic": video_id[3:]} for video_id in answers}
    run_id = make_run(storage, answers, prompt, spoken=spoken, labels=labels, syntheses=syntheses)
    written = write_report(storage, committed_run(storage, run_id), tmp_path / "report.html")
    page = read_page(written.path)
    check_page(page)
    assert set(page.attributes("class")) & {"item", "segment"} == {"item", "segment"}
    outside = [
        url for name in ("href", "src") for url in page.attributes(name) if not re.fullmatch(r"#[a-z0-9-]+", url)
    ]
    assert outside == []
    for payload in PAYLOADS:
        shown = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", payload)
        assert page.text.count(" ".join(shown.split())) >= 4, payload  # name, field, synthesis, transcript


def answer(payload):
    return {"summary": payload, "scene": {"location": payload}, "products": [{"name": payload, "tags": [payload]}]}


def test_lone_surrogate_of_an_answer_becomes_a_question_mark():
    assert encode("a\ud800b") == b"a?b"
