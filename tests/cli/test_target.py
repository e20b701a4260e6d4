"""Expansion of the files, folders and URLs that a user names."""

import pytest

from promptreel.cli.target import expand_target
from promptreel.schemas.errors import TargetError
from tests.cli.in_process import invoke


def test_target_without_media_is_rejected(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(TargetError, match="name at least one"):
        expand_target([])
    with pytest.raises(TargetError, match="no media files in"):
        expand_target([str(tmp_path)])
    with pytest.raises(TargetError, match="does not exist"):
        expand_target([str(tmp_path / "gone.mp4")])
    assert [item.name for item in expand_target([str(tmp_path / "notes.txt")]).items] == ["notes.txt"]
    assert [item.name for item in expand_target(["gs://bucket/a/b.mp4"]).items] == ["b.mp4"]


def test_skipped_files_of_a_folder_are_counted(tmp_path):
    for name in ("a.MP4", "b.m4b", "notes.txt", "more.txt", "deep/x.pdf", "LICENSE", ".hidden", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    target = expand_target([str(tmp_path)])
    assert [item.name for item in target.items] == ["a.MP4", "b.m4b"]
    text = "skipped 4 files without a media extension: .txt (2), no extension (1), .pdf (1)"
    assert target.skipped_text() == text
    assert expand_target([str(tmp_path / "a.MP4")]).skipped_text() is None
    code, _, err = invoke("run", tmp_path, "--data-dir", tmp_path / "data", "--model", "signals")
    assert (code, text in err) == (1, True)
