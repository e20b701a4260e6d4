"""The report of a run: its parts, what is missing, and its pages."""

import io
import json

import pytest
from PIL import Image

from promptreel.pages.answers import MAX_ANSWER_CHARS, MAX_FIELDS, shown_answer
from promptreel.pages.items import SEGMENTS_PER_PART
from promptreel.pages.report import write_report
from promptreel.pages.thumbnails import SIZE, inline_pictures, scale
from promptreel.pages.timeline import MAX_LANES, UNITS, Span, blocks
from promptreel.schemas.errors import InvalidInput, RunDamaged
from promptreel.tables.interim import commit_interim
from promptreel.tables.layout import run_folder
from promptreel.tables.manifest import newest_manifest
from promptreel.tables.reader import committed_run, readable_run
from promptreel.tables.storage import open_storage
from tests.damages import PART_DAMAGES
from tests.pages.html_facts import check_page, read_page
from tests.synthetic_runs import make_run

ANSWER = {"summary": "a van", "scene": {"location": "harbour"}, "products": []}


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path / "data")


def report_of(storage, run_id, out, **options):
    return write_report(storage, committed_run(storage, run_id), out, **options)


def test_empty_run_has_a_report(storage, tmp_path):
    written = report_of(storage, make_run(storage, {}), tmp_path / "report.html")
    page = read_page(written.path)
    check_page(page)
    assert "The run has no items." in page.text
    assert "created 2026-04-20 10:00:00 UTC" in page.text


def test_failures_are_grouped_with_their_fix(storage, tmp_path):
    run_id = make_run(storage, {"a": [ANSWER, None], "b": [None] * 12})
    page = read_page(report_of(storage, run_id, tmp_path / "report.html").path)
    check_page(page)
    assert "schema_invalid : 13" in page.text
    assert "13 of 13 retryable" in page.text
    assert "The first 10 of 13" in page.text
    assert "Suggested fix:" in page.text


def test_report_of_an_unfinished_run_says_so(storage, tmp_path):
    run_id = make_run(storage, {"a": [ANSWER]})
    manifest = newest_manifest(storage, run_id)
    storage.remove(f"{run_folder(run_id)}/manifests/000001.json")
    commit_interim(storage, run_id, attempt=1, counts={}, parts=manifest.parts)
    written = write_report(storage, readable_run(storage, run_id), tmp_path / "report.html")
    page = read_page(written.path)
    check_page(page)
    assert "The run had not ended" in page.text
    assert "interrupted" in page.text
    assert "a van" in page.text


@pytest.mark.parametrize("name", PART_DAMAGES)
def test_damaged_run_raises_and_writes_nothing(name, storage, tmp_path):
    run_id = make_run(storage, {"a": [ANSWER]})
    PART_DAMAGES[name](tmp_path / "data" / run_folder(run_id))
    with pytest.raises(RunDamaged, match="results"):
        report_of(storage, run_id, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_many_items_become_linked_pages_of_bounded_size(storage, tmp_path):
    names = [f"v{number:03d}" for number in range(250)]
    run_id = make_run(storage, {name: [ANSWER, None] for name in names}, shards=3)
    written = report_of(storage, run_id, tmp_path / "report.html", max_page_bytes=60_000)
    folder = tmp_path / "report"
    files = sorted(path.name for path in folder.iterdir())
    assert written.path == folder / "index.html"
    assert (len(files), written.size_bytes) == (written.files, sum(path.stat().st_size for path in folder.iterdir()))
    assert max(path.stat().st_size for path in folder.iterdir()) < 75_000
    index = read_page(written.path)
    check_page(index)
    assert [link for link in index.attributes("href") if not link.startswith("#")] == files[1:]
    shown = []
    for position, file in enumerate(files[1:]):
        page = read_page(folder / file)
        check_page(page)
        links = {link for link in page.attributes("href") if not link.startswith("#")}
        near = {files[position]} - {files[0]} | set(files[position + 2 : position + 3])
        assert links == {"index.html", *near}
        shown += [text.removesuffix(".mp4") for text in page.texts if text.endswith(".mp4")]
    assert shown == names


def test_long_item_is_split_and_shows_each_segment_once(storage, tmp_path):
    count = 1_130
    run_id = make_run(storage, {"film": [{**ANSWER, "summary": f"word{number}."} for number in range(count)]})
    report_of(storage, run_id, tmp_path / "report.html", max_page_bytes=200_000)
    words, ids = [], []
    for path in sorted((tmp_path / "report").glob("page-*.html")):
        page = read_page(path)
        check_page(page)
        words += [text for text in page.texts if text.startswith("word")]
        ids += [value for value in page.attributes("id") if value.startswith("i1-s")]
        assert all(len(svg) for svg in page.named("svg"))
    assert words == [f"word{number}." for number in range(count)]
    assert ids == [f"i1-s{number}" for number in range(1, count + 1)]
    assert count % SEGMENTS_PER_PART


def test_new_report_replaces_the_pages_of_an_earlier_one(storage, tmp_path):
    run_id = make_run(storage, {name: [ANSWER] * 3 for name in "abcdefgh"})
    small = report_of(storage, run_id, tmp_path / "report.html", max_page_bytes=1)
    large = report_of(storage, run_id, tmp_path / "report.html", max_page_bytes=20_000)
    assert small.files > large.files == len(list((tmp_path / "report").iterdir()))


def test_folder_with_other_files_is_not_replaced(storage, tmp_path):
    run_id = make_run(storage, {name: [ANSWER] for name in "ab"})
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidInput, match=r"thesis\.txt.*--out"):
        report_of(storage, run_id, tmp_path / "report.html", max_page_bytes=1)
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("out", "message"), [("report.pdf", "suffix .html"), ("data/report.html", "cannot be written")]
)
def test_unusable_out_is_rejected(out, message, storage, tmp_path):
    run_id = make_run(storage, {"a": [ANSWER]})
    (tmp_path / "data" / "report.html").mkdir()
    with pytest.raises(InvalidInput, match=message):
        report_of(storage, run_id, tmp_path / out)
    assert (tmp_path / "data" / "report.html").is_dir()


def test_answers_are_flattened_and_bounded():
    answer = shown_answer(json.dumps({"a": {"b": [1, 2.5]}, "c": [{"d": "x"}, {"d": None}], "e": True, "f": []}))
    assert [(field.path, field.text) for field in answer.fields] == [
        ("a.b", "1, 2.5"),
        ("c[0].d", "x"),
        ("e", "true"),
        ("f", "[]"),
    ]
    assert not answer.is_shortened
    assert shown_answer("no json").fields[0].text == "no json"
    for large in (
        {str(n): n for n in range(MAX_FIELDS + 1)},
        {"a": "x" * 10_000},
        {str(n): "x" * 599 for n in range(50)},
    ):
        answer = shown_answer(json.dumps(large))
        assert answer.is_shortened
        assert len(answer.fields) <= MAX_FIELDS
        assert sum(len(field.text) for field in answer.fields) <= MAX_ANSWER_CHARS
    deep = "[" * 500 + "]" * 500
    assert len(shown_answer(deep).fields) == 1
    assert shown_answer("[" * 200_000).fields


def test_overlapping_spans_are_in_lanes_within_the_timeline():
    placed = blocks([Span(0, 4), Span(2, 6), Span(4, 8), Span(9, 20)], 10)
    assert [block.lane for block in placed] == [0, 1, 0, 0]
    assert all(0 <= block.x <= UNITS and block.x + block.width <= UNITS for block in placed)
    many = blocks([Span(0, 10)] * 9, 10)
    assert max(block.lane for block in many) == MAX_LANES - 1
    assert blocks([], 0) == ()


def test_thumbnails_are_small_and_unusable_frames_have_none(tmp_path):
    storage = open_storage(tmp_path)
    content = io.BytesIO()
    Image.effect_noise((1280, 720), 80).save(content, "JPEG")
    storage.write_atomic("cache/analysis/ab/good.jpg", content.getvalue())
    storage.write_atomic("cache/analysis/ab/cut.jpg", content.getvalue()[:2000])
    storage.write_atomic("cache/analysis/ab/text.jpg", b"<svg onload=alert(1)>")
    storage.write_atomic("elsewhere/good.jpg", content.getvalue())
    names = ["cache/analysis/ab/" + name for name in ("good.jpg", "cut.jpg", "text.jpg", "gone.jpg")]
    pictures = inline_pictures(storage, [*names, "elsewhere/good.jpg", "cache/analysis/../../elsewhere/good.jpg"])
    assert list(pictures) == [names[0]]
    assert (pictures[names[0]].width, pictures[names[0]].height) == (160, 90)
    assert len(pictures[names[0]].uri) < 16_000
    portrait = io.BytesIO()
    Image.new("RGB", (300, 900)).save(portrait, "JPEG")
    assert max(scale(portrait.getvalue())[1:]) == SIZE[1]
