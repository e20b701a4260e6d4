"""Selection of an ffmpeg, among the bundled one and shell scripts that imitate others."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptreel.media import ffmpeg
from promptreel.media.ffmpeg import (
    FORMAT_WHITELIST,
    VARIABLE,
    ffmpeg_candidates,
    find_ffmpeg,
    input_arguments,
)
from promptreel.schemas.errors import MediaError

ENCODERS = " V....D libx264 x\n A....D aac x\n VFS..D mjpeg x\n A....D flac x\n"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Unset PROMPTREEL_FFMPEG and set an empty PATH."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    ffmpeg_candidates.cache_clear()
    yield
    ffmpeg_candidates.cache_clear()


def write_fake_ffmpeg(path: Path, version: str = "ffmpeg version 9.0.1 Copyright", encoders: str = ENCODERS) -> Path:
    """Write a script that answers -version and -encoders."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\nif [ \"$1\" = -version ]; then echo '{version}'; else echo '{encoders}'; fi\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The binaries folder of an imageio-ffmpeg without a build for this system."""
    folder = tmp_path / "imageio_ffmpeg" / "binaries"
    folder.mkdir(parents=True)
    (folder / "README.md").touch()
    monkeypatch.setattr("imageio_ffmpeg.__file__", str(folder.parent / "__init__.py"))
    return folder


def test_bundled_ffmpeg_precedes_the_path(tmp_path: Path) -> None:
    assert find_ffmpeg().source == "imageio-ffmpeg"
    write_fake_ffmpeg(tmp_path / "bin" / "ffmpeg", "ffmpeg version 99.0")
    ffmpeg_candidates.cache_clear()
    found = find_ffmpeg()
    assert found.source == "imageio-ffmpeg"
    assert subprocess.run([found.path, "-version"], capture_output=True, check=True).stdout.startswith(
        b"ffmpeg version"
    )
    assert [candidate.source for candidate in ffmpeg_candidates()] == ["imageio-ffmpeg"]


@pytest.mark.parametrize("variable", ["PATH", "IMAGEIO_FFMPEG_EXE"])
def test_system_ffmpeg_is_not_run(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "bin" / "ffmpeg"
    path.write_text(f"#!/bin/sh\n: > '{marker}'\necho ffmpeg version 5.1.9-0+deb12u1\n")
    path.chmod(0o755)
    if variable != "PATH":
        monkeypatch.setenv(variable, str(path))
    assert find_ffmpeg().source == "imageio-ffmpeg"
    assert find_ffmpeg().path != str(path)
    assert not marker.exists()


@pytest.mark.usefixtures("bundled")
def test_ffmpeg_that_imageio_finds_elsewhere_is_not_bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = write_fake_ffmpeg(tmp_path / "prefix" / "ffmpeg")
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: str(elsewhere))
    with pytest.raises(MediaError, match="imageio-ffmpeg: no bundled ffmpeg for this system; PATH: ffmpeg not found"):
        find_ffmpeg()


@pytest.mark.usefixtures("bundled")
def test_path_is_used_if_no_ffmpeg_is_bundled(tmp_path: Path) -> None:
    path = write_fake_ffmpeg(tmp_path / "bin" / "ffmpeg", "ffmpeg version 9.1.1")
    assert (find_ffmpeg().path, find_ffmpeg().version, find_ffmpeg().source) == (str(path), "9.1.1", "PATH")
    assert ffmpeg_candidates()[0].verdict == "no bundled ffmpeg for this system"


def test_configured_ffmpeg_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fake_ffmpeg(tmp_path / "bin" / "ffmpeg")
    configured = write_fake_ffmpeg(tmp_path / "mine" / "ffmpeg-10", "ffmpeg version n10.0.2-static")
    monkeypatch.setenv(VARIABLE, str(configured))
    assert (find_ffmpeg().path, find_ffmpeg().version, find_ffmpeg().source) == (
        str(configured),
        "10.0.2-static",
        VARIABLE,
    )


@pytest.mark.usefixtures("bundled")
@pytest.mark.parametrize(
    ("banner", "usable"),
    [
        ("ffmpeg version 9.0.2-17-g2a571b6068-20260930 Copyright", True),
        ("ffmpeg version 9.0", True),
        ("ffmpeg version n10.0 Copyright", True),
        ("ffmpeg version 5.1.9-0+deb12u1 Copyright", False),
        ("ffmpeg version 7.0.2-static", False),
        ("ffmpeg version 8.1", False),
        ("ffmpeg version N-109468-gd39b34123d", False),
        ("something else", False),
        ("", False),
    ],
)
def test_supported_versions_are_usable(banner: str, usable: bool, tmp_path: Path) -> None:
    write_fake_ffmpeg(tmp_path / "bin" / "ffmpeg", banner)
    candidate = ffmpeg_candidates()[-1]
    assert (candidate.source, candidate.usable) == ("PATH", usable)
    if not usable:
        assert str(tmp_path) in candidate.verdict
        assert "must be" in candidate.verdict or "unknown version" in candidate.verdict


def test_old_configured_ffmpeg_is_rejected_with_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = write_fake_ffmpeg(tmp_path / "mine" / "ffmpeg", "ffmpeg version 5.1.9-0+deb12u1 Copyright")
    monkeypatch.setenv(VARIABLE, str(configured))
    with pytest.raises(MediaError) as caught:
        find_ffmpeg()
    minimum = ".".join(map(str, ffmpeg.MIN_VERSION))
    assert f"{VARIABLE}: {configured} is version 5.1.9-0+deb12u1; it must be {minimum} or newer" in caught.value.message
    assert caught.value.message.endswith(f"set {VARIABLE} to another ffmpeg, or unset it")


@pytest.mark.usefixtures("bundled")
def test_ffmpeg_without_an_encoder_is_skipped_with_its_name(tmp_path: Path) -> None:
    write_fake_ffmpeg(
        tmp_path / "bin" / "ffmpeg", encoders=ENCODERS.replace(" V....D libx264 x\n", " V....D libx264rgb x\n")
    )
    assert ffmpeg_candidates()[-1].verdict.endswith("lacks encoders: libx264")


@pytest.mark.usefixtures("bundled")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\nexit 3\n", "exit status 3"),
        ("#!/nowhere/sh\n", "No such file"),
        ("\x7fELF broken", "Exec format error"),
        ("#!/bin/sh\nexec /bin/sleep 60\n", "timed out"),
    ],
    ids=["fails", "no interpreter", "not executable", "hangs"],
)
def test_ffmpeg_that_does_not_run_is_skipped_with_the_reason(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg, "_PROBE_TIMEOUT_S", 0.5 if reason == "timed out" else 20)
    path = tmp_path / "bin" / "ffmpeg"
    path.write_text(script)
    path.chmod(0o755)
    assert reason in ffmpeg_candidates()[-1].verdict
    assert not ffmpeg_candidates()[-1].usable


def test_configured_ffmpeg_that_does_not_run_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fake_ffmpeg(tmp_path / "bin" / "ffmpeg")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "missing"))
    with pytest.raises(MediaError, match=rf"{VARIABLE}: .*missing does not run .*No such file.*unset it") as caught:
        find_ffmpeg()
    assert caught.value.retryable


def test_without_any_ffmpeg_the_error_lists_reasons_and_fix(tmp_path: Path, bundled: Path) -> None:
    write_fake_ffmpeg(tmp_path / "bin" / "ffmpeg", "ffmpeg version 4.2")
    write_fake_ffmpeg(bundled / "ffmpeg-linux-v3.0", "ffmpeg version 3.0")
    with pytest.raises(MediaError, match=r"imageio-ffmpeg: .* 3\.0; it must be .*PATH: .* 4\.2; it must .*pip install"):
        find_ffmpeg()


def test_every_input_is_a_file_with_whitelists() -> None:
    arguments = input_arguments("http://127.0.0.1/a.mp4", t=3)
    assert arguments["filename"] == "file:http://127.0.0.1/a.mp4"
    assert arguments["protocol_whitelist"] == "file"
    assert arguments["format_whitelist"] == FORMAT_WHITELIST
    assert arguments["t"] == 3


def test_whitelist_has_only_demuxers_that_open_one_file() -> None:
    listing = subprocess.run([find_ffmpeg().path, "-hide_banner", "-demuxers"], capture_output=True, check=True).stdout
    lines = [line for line in listing.decode().splitlines() if line.startswith(" D") and "=" not in line[:12]]
    known = {name for line in lines for name in line.split()[1].split(",")}
    allowed = set(FORMAT_WHITELIST.split(","))
    assert allowed <= known, "unknown demuxer names"
    reaching = "hls applehttp dash concat sdp rtsp image2 image2pipe webvtt lavfi imf tee vapoursynth avisynth smil"
    assert not allowed & set(reaching.split())
