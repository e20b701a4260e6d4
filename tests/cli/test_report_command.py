"""`promptreel report`, and `run --report`."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.in_process import FIXED_SEGMENTS, invoke
from tests.damages import MANIFEST_DAMAGES
from tests.fake_gemini import FakeGemini, Fault
from tests.pages.html_facts import check_page, read_page
from tests.pipeline_runs import make_image, make_video, promptreel, run_media, settings_for


def test_report_shows_every_item_with_pictures(finished_run, tmp_path):
    data, run_id, *_ = finished_run
    code, out, err = invoke("report", "--data-dir", data, "--out", tmp_path / "made" / "report.html")
    assert (code, err) == (0, "")
    assert out.startswith(f"report   {tmp_path}/made/report.html (")
    page = read_page(tmp_path / "made" / "report.html")
    check_page(page)
    for name in ("a film.mp4", "b.flac", "c.png", "d.mp4", "media_unsupported", "Suggested fix:", run_id):
        assert name in page.text
    assert [picture["alt"] for picture in page.named("img")] == [
        "Frame of segment 1",
        "Frame of segment 2",
        "Frame of segment 1",
    ]
    assert page.text.count("sound only") == 1
    assert page.text.count("no transcription: the weights of") == 1  # a warning of the run is shown once
    assert str(data) not in " ".join(page.attributes("href"))


def test_report_json_names_the_file(finished_run, tmp_path):
    data, run_id, *_ = finished_run
    code, out, _ = invoke("report", run_id, "--data-dir", data, "--out", tmp_path / "r.html", "--json")
    size = (tmp_path / "r.html").stat().st_size
    assert (code, json.loads(out)) == (0, {"file": str(tmp_path / "r.html"), "files": 1, "bytes": size})


def test_missing_frames_leave_placeholders(finished_run, tmp_path):
    data = shutil.copytree(finished_run[0], tmp_path / "data")
    shutil.rmtree(data / "cache")
    code, *_ = invoke("report", "--data-dir", data, "--out", tmp_path / "report.html")
    page = read_page(tmp_path / "report.html")
    check_page(page)
    assert (code, page.named("img"), page.text.count("no frame")) == (0, [], 3)


@pytest.mark.parametrize("name", [*MANIFEST_DAMAGES][:3])
def test_damaged_run_is_a_clear_error(name, finished_run, tmp_path):
    data = shutil.copytree(finished_run[0], tmp_path / "data")
    MANIFEST_DAMAGES[name](data / "runs" / finished_run[1])
    code, out, err = invoke("report", finished_run[1], "--data-dir", data, "--out", tmp_path / "report.html")
    assert (code, out, (tmp_path / "report.html").exists()) == (1, "", False)
    assert f"run {finished_run[1]} is damaged" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["run_nothing"], "run_nothing"), (["../x"], "run id '../x'"), (["--out", "report.pdf"], "suffix .html")],
)
def test_wrong_input_is_rejected(words, message, finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke("report", *words, "--data-dir", finished_run[0])
    assert (code, out, list(tmp_path.iterdir())) == (2, "", [])
    assert message in err


def test_hostile_answers_and_costs_of_a_real_run(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    hostile = "<img src=x onerror=alert(1)>"
    film = make_video(tmp_path / "media" / f"{hostile}.mp4", 3)
    answer = {"summary": hostile, "scene": {"location": hostile}, "products": [{"name": hostile}], "topic": hostile}
    faults = [Fault(text="0:02.00 to 0:03.00", finish_reason="SAFETY")]
    with FakeGemini(answer=lambda body, schema: answer, faults=faults) as server:
        run_id = run_media(tmp_path / "data", film, settings_for(server, media_input="frames"))
    code, *_ = invoke("report", run_id, "--data-dir", tmp_path / "data", "--out", tmp_path / "report.html")
    page = read_page(tmp_path / "report.html")
    check_page(page)
    assert code == 0
    assert len(page.named("img")) == 3  # one for each segment
    assert page.text.count(hostile) >= 6
    assert "metadata extraction" in page.text
    assert "USD" in page.text
    assert "video level synthesis" in page.text
    assert "failed: " in page.text


def test_run_ends_by_naming_its_report(tmp_path):
    media = tmp_path / "media"
    make_image(media / "a.png")
    (media / "b.mp4").write_text("no film")
    words = [media, *FIXED_SEGMENTS, "--data-dir", tmp_path / "data", "--model", "signals"]
    code, out, _ = promptreel("run", *words, "--report", tmp_path / "report.html")
    assert code == 3  # completed with failures: b.mp4
    assert out.strip().splitlines()[-1].startswith(f"report   {tmp_path}/report.html (")
    check_page(read_page(tmp_path / "report.html"))
    code, out, err = promptreel("run", *words, "--json", "--report", media / "a.png" / "report.html")
    assert (code, json.loads(out)["status"]) == (3, "completed_with_failures")
    assert "warning: the run is complete, but its report is missing:" in err


def test_report_file_is_checked_before_the_run(tmp_path):
    image = make_image(tmp_path / "a.png")
    code, _, err = invoke("run", image, "--report", "report.txt", "--data-dir", tmp_path / "data")
    assert code == 2
    assert "--report report.txt: a report is an HTML file" in err
    assert not Path(tmp_path / "data" / "runs").exists()
