"""The progress lines of `promptreel run`."""

import shutil

from promptreel.cli.progress import RunProgress, describe
from promptreel.tables.progress import ProgressBoard, read_progress
from promptreel.tables.storage import open_storage
from tests.pipeline_runs import promptreel


def test_progress_without_terminal_prints_a_line_per_change(tmp_path, capsys, monkeypatch):
    storage = open_storage(tmp_path)
    now = [0.0]
    monkeypatch.setattr("promptreel.cli.progress.time.monotonic", lambda: now[0])
    board = ProgressBoard(storage, "run_a", 1)
    with RunProgress(storage, "run_a", 2) as progress:
        for second in range(20):
            now[0] = second
            if second in (0, 5, 6):
                board.add(items_read=1)
                board.flush()
            progress.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "run run_a: 2 items"
    assert 3 <= len(lines) <= 5
    assert lines[-1].endswith("done")
    assert not any("\x1b" in line for line in lines)


def test_progress_of_a_repeated_run_counts_reused_operations(tmp_path, media):
    shutil.copy(media / "b.flac", tmp_path / "same.flac")
    target = [media / "b.flac", tmp_path / "same.flac"]
    for _ in range(2):
        _, _, err = promptreel("run", *target, "--data-dir", tmp_path / "data", "--model", "signals")
    last = err.strip().splitlines()[-1]
    assert "media 2/2" in last  # two files, one item
    assert "operations 3, reused 3" in last  # its segment, its synthesis, its texts
    newest = sorted((tmp_path / "data" / "runs").iterdir())[-1].name
    counts = read_progress(open_storage(tmp_path / "data"), newest)
    assert counts["analyses_reused"] == 1
    assert describe(counts, 2) in last
