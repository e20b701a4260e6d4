"""Tables on standard output: plain text in a pipe; in a terminal a table, or records if it is too wide."""

import csv
import io
import re

import pytest

from promptreel.cli import output
from promptreel.cli.output import print_table
from promptreel.cli.progress import RunProgress
from promptreel.tables.storage import open_storage
from tests.cli.in_process import FIXED_SEGMENTS, invoke
from tests.cli.terminal import in_terminal

BOXES = re.compile("[\u2500-\u257f]")
RUN_ID = "run_20260102030405678901_0123456789abcdef0123"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def printed(monkeypatch, columns, names, rows, title="Title"):
    """What print_table prints in a terminal of this many columns."""
    stream = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout", stream)
    print_table(title, names, rows)
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())


def read_tsv(text):
    return list(csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize(
    ("words", "header"),
    [
        (["runs"], "run_id"),
        (["results"], "media"),
        (["results", "--video-level"], "media"),
        (["failures"], "media"),
        (["sql", "SELECT * FROM segments"], "run_id"),
        (["doctor"], "check"),
        (["models", "list"], "model"),
    ],
)
def test_piped_output_is_one_plain_table(finished_run, words, header):
    data = finished_run[0]
    where = [] if words[0] == "models" else ["--data-dir", data]
    _, out, _ = invoke(*words, *where)
    assert not BOXES.search(out)
    rows = read_tsv(out)
    assert rows[0][0] == header
    assert len(rows) > 1
    assert {len(row) for row in rows} == {len(rows[0])}


def test_piped_notes_and_titles_go_to_standard_error(finished_run, media, tmp_path):
    data, run_id, *_ = finished_run
    _, out, err = invoke("results", "--data-dir", data)
    assert (run_id in out, f"Results of {run_id}" in err) == (False, True)
    _, out, err = invoke("estimate", media, *FIXED_SEGMENTS, "--data-dir", tmp_path, "--model", "gemini-x")
    assert (len(read_tsv(out)), "segments 4, model calls 6" in err) == (5, True)
    _, out, err = invoke("diff", run_id, run_id, "--same", "--data-dir", data)
    rows = read_tsv(out)
    assert rows[0] == ["media", "time", "field", "change", "before", "after"]
    assert {row[0] for row in rows[1:]} == {"a film.mp4", "b.flac", "c.png"}  # names, not ids
    assert "segments differ" in err


def test_piped_values_are_complete_and_escaped(finished_run):
    data = finished_run[0]
    statement = (
        "SELECT 'a' || chr(9) || 'b' || chr(10) || 'c\\' || chr(27) AS t, repeat('x', 500) AS l, 0.1::DOUBLE AS d"
    )
    _, out, _ = invoke("sql", statement + ", [1, 2] AS n, NULL AS z, DATE '2026-01-02' AS y", "--data-dir", data)
    header, row = out.splitlines()
    assert header == "t\tl\td\tn\tz\ty"
    assert row.split("\t") == ["a\\tb\\nc\\\\\\x1b", "x" * 500, "0.1", "[1, 2]", "", "2026-01-02"]


def test_values_are_one_line_of_printable_text():
    assert output.plain_value("a\u202eb\x85\u2028\udcff") == "a\\u202eb\\x85\\u2028\\udcff"
    assert output.plain_value(True) == "true"
    assert output.plain_value(1 / 3) == "0.3333333333333333"


def test_narrow_table_stays_a_table(monkeypatch):
    out = printed(monkeypatch, 80, ["id", "n"], [[RUN_ID, 1], ["b", 2]])
    assert out.splitlines()[0] == "Title"
    assert BOXES.search(out)
    assert RUN_ID in out


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_wide_table_becomes_records_with_unbroken_ids(monkeypatch, columns):
    names = ["run_id", *(f"column{n}" for n in range(6)), "text"]
    rows = [[f"{RUN_ID}{n}", *[f"vid_{n}0123456789abcdef0123456789"] * 6, "word " * 60] for n in range(3)]
    out = printed(monkeypatch, columns, names, rows, f"Results of {RUN_ID}")
    lines = out.splitlines()
    assert lines[0] == f"Results of {RUN_ID}"
    assert not BOXES.search(out)
    assert all(f"run_id   {RUN_ID}{n}" in lines for n in range(3))
    assert out.count("\n\n") == 3  # a blank line before each record
    if columns >= 60:
        assert max(map(len, lines)) <= columns


def test_records_leave_out_empty_values(monkeypatch):
    out = printed(monkeypatch, 30, ["a", "empty", "none"], [["x" * 40, "", None]])
    assert out.split() == ["Title", "a", "x" * 40]


def test_control_sequences_do_not_reach_the_terminal(monkeypatch):
    for columns in (20, 80):
        out = printed(monkeypatch, columns, ["name"], [["\x1b[2Jfilm\x07" + "y" * 20]], "T\x1b]0;x\x07")
        assert not re.search(r"[\x07\x1b]", out)


def test_real_terminal_shows_run_ids_on_one_line(finished_run):
    data, run_id, *_ = finished_run
    for columns in (60, 80):
        code, out = in_terminal("runs", "--data-dir", data, columns=columns)
        assert code == 0
        assert any(run_id in line for line in out.splitlines())
        _, out = in_terminal(
            "sql", "SELECT segment_id, video_id, run_id FROM results", "--data-dir", data, columns=columns
        )
        assert sum(run_id in line for line in out.splitlines()) == 4


def test_progress_line_of_a_terminal_is_not_wrapped(tmp_path, monkeypatch):
    stream = Terminal()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("promptreel.cli.progress.describe", lambda *_: "segments 12, " * 10)
    with RunProgress(open_storage(tmp_path), RUN_ID, 1) as progress:
        progress.update()
        progress._live.refresh()
        stream.truncate(0)
        stream.seek(0)
        progress._next_update = 0
        progress.update()
        progress._live.refresh()
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "segments 12" in shown
    assert "\n" not in shown


def test_run_writes_progress_to_standard_error_only(finished_run):
    _, run_id, _, out, err = finished_run
    assert "media 4/4" in err
    assert f"run {run_id}: 4 items" in err
    assert not re.search(r"^ *\d+s media", out, re.MULTILINE)
    assert not BOXES.search(out)
    assert "name\ttype\tstatus" in out
