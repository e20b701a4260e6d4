"""The decode pass against films whose every picture and sample is known."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from promptreel.media import decode
from promptreel.media.decode import DecodedMedia, decode_media
from promptreel.media.decode_sinks import DecodeSinks
from promptreel.media.probe import probe_media
from promptreel.media.shots import FeatureBuilder, detect_transitions
from promptreel.media.stills import MAX_IMAGE_SIDE
from promptreel.schemas.errors import MediaError
from promptreel.schemas.media import MediaInfo
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.conftest import COLOUR_FILM
from tests.media_files import (
    RATE,
    X264,
    Pictures,
    Sound,
    colour_of,
    ffmpeg,
    halves,
    loudest_hertz,
    plain,
    read_pictures,
    read_sound,
    silence,
    sounding_s,
    textured,
    tone,
    write_changing_film,
    write_film,
    write_image,
    write_sound,
)

pytestmark = pytest.mark.usefixtures("leaves_nothing")
EVERY_FRAME = ("-bf", 0)  # no reordered frames: none is skipped


@dataclass(frozen=True)
class Pass:
    """What a pass gave: its result, the small frames and their times, and the sound."""

    info: MediaInfo
    media: DecodedMedia
    folder: Path
    frames: Pictures
    times_us: NDArray[np.int64]
    sound: Sound

    @property
    def kept(self) -> list[tuple[int, str]]:
        """(time, colour) of each sampled picture."""
        return [(frame.time_us, colour_of(self.picture(number))) for number, frame in enumerate(self.media.frames)]

    def picture(self, number: int) -> Pictures:
        """A sampled picture, uint8[h, w, 3]."""
        path = self.folder / self.media.frames[number].file
        size = image_size(path)
        return read_pictures(path, size)[0]


def image_size(path: Path) -> tuple[int, int]:
    video = probe_media(path).video
    assert video is not None
    return video.display_size


@pytest.fixture
def decoded(tmp_path: Path) -> Callable[..., Pass]:
    """Decodes a file; keywords are those of the settings and limits."""

    def run(path: Path, limits: MediaLimits | None = None, **sampling: float) -> Pass:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        frames: list[Pictures] = [np.zeros((0, 36, 64, 3), np.uint8)]
        times: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        sound: list[Sound] = [np.zeros(0, np.int16)]

        def on_frames(block: Pictures, times_us: NDArray[np.int64]) -> None:
            assert len(block) == len(times_us) > 0
            frames.append(block)
            times.append(times_us)

        info = probe_media(path)
        settings = SamplingSettings(**sampling)  # type: ignore[arg-type]
        media = decode_media(info, folder, settings, limits or MediaLimits(), on_frames, sound.append)
        return Pass(info, media, folder, np.concatenate(frames), np.concatenate(times), np.concatenate(sound))

    return run


Decode = Callable[..., Pass]


def test_every_frame_comes_with_its_time_and_colour(decoded: Decode, tmp_path: Path) -> None:
    path = write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 25), 25, *EVERY_FRAME)
    got = decoded(path)
    assert got.times_us.tolist() == [number * 40_000 for number in range(100)]
    assert [colour_of(frame) for frame in got.frames] == [name for name in COLOUR_FILM for _ in range(25)]
    assert (got.media.frame_count, got.media.duration_us, got.media.truncated) == (100, 4_000_000, False)
    assert (got.media.audio_file, got.media.warnings, len(got.sound)) == (None, (), 0)


def test_one_picture_a_second_is_kept_with_its_time(decoded: Decode, tmp_path: Path) -> None:
    got = decoded(write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 25), 25, *EVERY_FRAME))
    assert got.kept == [(number * 1_000_000, name) for number, name in enumerate(COLOUR_FILM)]
    assert sorted(path.name for path in (got.folder / "frames").iterdir()) == [f"0000000{n}.jpg" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("rate", "expected_s"),
    [
        (2, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]),
        (0.5, [0, 2]),
        (0.1, [0]),
        (5, [number / 5 for number in range(20)]),
    ],
)
def test_sampling_rate_is_that_of_the_settings(
    rate: float, expected_s: list[float], decoded: Decode, tmp_path: Path
) -> None:
    path = write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 20), 20, *EVERY_FRAME)
    frames = decoded(path, frames_per_second=rate).media.frames
    assert [frame.time_us for frame in frames] == [round(time_s * 1_000_000) for time_s in expected_s]


def test_slow_films_keep_each_picture_once(decoded: Decode, tmp_path: Path) -> None:
    path = write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 1), 0.5, *EVERY_FRAME)
    got = decoded(path)
    assert got.kept == [(number * 2_000_000, name) for number, name in enumerate(COLOUR_FILM)]
    assert got.media.duration_us == 8_000_000


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((160, 90), (854, 480), (160, 90)),
        ((1280, 720), (854, 480), (854, 480)),
        ((360, 640), (854, 480), (270, 480)),
        ((640, 64), (100, 100), (100, 10)),
        ((162, 94), (854, 480), (162, 94)),
    ],
)
def test_pictures_fit_into_the_box_and_are_never_enlarged(
    size: tuple[int, int], box: tuple[int, int], expected: tuple[int, int], decoded: Decode, tmp_path: Path
) -> None:
    path = write_film(tmp_path / "f.mp4", plain(["red"], 3, size), 3)
    got = decoded(path, max_width=box[0], max_height=box[1])
    assert image_size(got.folder / got.media.frames[0].file) == expected


@pytest.mark.parametrize(("ratio", "expected"), [("2/1", (320, 90)), ("1/2", (80, 90)), ("8/1", (854, 60))])
def test_pixels_that_are_not_square_are_made_so(
    ratio: str, expected: tuple[int, int], decoded: Decode, tmp_path: Path
) -> None:
    path = write_film(tmp_path / "f.mp4", plain(["red"], 3), 3, "-vf", f"setsar={ratio}")
    got = decoded(path)
    kept = got.folder / got.media.frames[0].file
    assert image_size(kept) == expected
    av = pytest.importorskip("av")
    with av.open(str(kept)) as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, 0, 1)


@pytest.mark.parametrize(
    ("turn", "size", "first_half"),
    [(0, (160, 90), "top"), (90, (90, 160), "right"), (180, (160, 90), "bottom"), (270, (90, 160), "left")],
)
def test_rotation_is_applied_to_both_kinds_of_frames(
    turn: int, size: tuple[int, int], first_half: str, decoded: Decode, tmp_path: Path
) -> None:
    upright = write_film(tmp_path / "f.mp4", np.repeat(halves("red", "blue", (160, 90)), 5, axis=0), 5)
    ffmpeg("-display_rotation", -turn, "-i", upright, "-c", "copy", tmp_path / "t.mp4")
    got = decoded(tmp_path / "t.mp4")
    assert image_size(got.folder / got.media.frames[0].file) == size
    for picture in (got.picture(0), got.frames[0]):
        height, width = picture.shape[:2]
        parts = {
            "top": picture[: height // 2],
            "bottom": picture[height // 2 :],
            "left": picture[:, : width // 2],
            "right": picture[:, width // 2 :],
        }
        assert [side for side, part in parts.items() if colour_of(part) == "red" and side == first_half]


def test_varying_rate_keeps_its_times(decoded: Decode, tmp_path: Path) -> None:
    even = write_film(tmp_path / "e.mp4", plain(COLOUR_FILM, 1), 1)
    uneven = ("-vf", "settb=1/1000,setpts='N*N*0.5/TB'", "-fps_mode", "vfr", "-enc_time_base", "1/1000")
    ffmpeg("-i", even, *uneven, *X264, tmp_path / "v.mkv")
    got = decoded(tmp_path / "v.mkv")
    assert got.times_us.tolist() == [0, 500_000, 2_000_000, 4_500_000]
    assert got.kept == [(0, "red"), (2_000_000, "blue"), (4_500_000, "yellow")]


@pytest.mark.parametrize("suffix", ["mp3", "flac", "m4a", "ogg", "wav", "opus"])
def test_sound_comes_at_16_khz_with_its_length_and_pitch(suffix: str, decoded: Decode, tmp_path: Path) -> None:
    got = decoded(write_sound(tmp_path / f"s.{suffix}", tone(440, 3), "-ar", 48_000, "-ac", 2))
    assert len(got.sound) == pytest.approx(3 * RATE, abs=RATE // 100)
    assert loudest_hertz(got.sound) == pytest.approx(440, abs=1)
    assert got.media.duration_us == pytest.approx(3_000_000, abs=20_000)
    assert (got.media.frames, got.media.frame_count, got.media.audio_file) == ((), 0, "audio.flac")
    np.testing.assert_array_equal(read_sound(got.folder / "audio.flac"), got.sound)


def test_sound_is_that_of_the_default_track(decoded: Decode, tmp_path: Path) -> None:
    sound = [tone(300, 3), tone(900, 3), tone(2000, 3)]
    default = ("-disposition:a", "0", "-disposition:a:1", "default")
    got = decoded(write_film(tmp_path / "t.mkv", plain(["red"], 30), 10, *default, sound=sound))
    assert loudest_hertz(got.sound) == pytest.approx(900, abs=1)


def test_channels_are_mixed_to_one(decoded: Decode, tmp_path: Path) -> None:
    write_sound(tmp_path / "left.wav", tone(400, 2))
    write_sound(tmp_path / "right.wav", tone(1000, 2))
    joined = ("-filter_complex", "[0:a][1:a]amerge=inputs=2")
    ffmpeg("-i", tmp_path / "left.wav", "-i", tmp_path / "right.wav", *joined, tmp_path / "both.flac")
    power = np.abs(np.fft.rfft(decoded(tmp_path / "both.flac").sound.astype(float)))
    assert set(np.argsort(power)[-2:].tolist()) == {800, 2000}  # half a hertz each


def onset_s(sound: Sound) -> float:
    """When sound is first heard."""
    return float(np.flatnonzero(np.abs(sound.astype(int)) > 2000)[0]) / RATE


def test_sound_that_begins_late_keeps_its_time(decoded: Decode, tmp_path: Path) -> None:
    film = write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 25), 25, sound=[tone(440, 2)])
    late = ("-itsoffset", 1.5, "-i", film, "-map", "0:v", "-map", "1:a", "-c", "copy")
    for suffix in ("mp4", "mkv"):
        ffmpeg("-i", film, *late, tmp_path / f"late.{suffix}")
        got = decoded(tmp_path / f"late.{suffix}")
        assert onset_s(got.sound) == pytest.approx(1.5, abs=0.05)
        assert onset_s(read_sound(got.folder / "audio.flac")) == pytest.approx(1.5, abs=0.05)
        assert got.media.duration_us == pytest.approx(4_000_000, abs=30_000)


def test_pictures_that_begin_late_keep_their_time(decoded: Decode, tmp_path: Path) -> None:
    film = write_film(tmp_path / "f.mp4", plain(COLOUR_FILM, 25), 25, *EVERY_FRAME, sound=[tone(440, 5)])
    late = ("-itsoffset", 1.5, "-i", film, "-map", "1:v", "-map", "0:a", "-c", "copy")
    ffmpeg("-i", film, *late, tmp_path / "late.mp4")
    got = decoded(tmp_path / "late.mp4")
    assert got.times_us[0] == 1_500_000
    assert got.kept[0] == (1_500_000, "red")
    assert onset_s(got.sound) == pytest.approx(0, abs=0.05)


def test_gap_in_the_sound_does_not_move_what_follows(decoded: Decode, tmp_path: Path) -> None:
    gap = ("-af", "aselect='not(between(t,1,2.5))'", "-c:a", "pcm_s16le")
    write_sound(tmp_path / "gap.mkv", np.concatenate([tone(440, 3), silence(1), tone(1000, 1)]), *gap)
    sound = decoded(tmp_path / "gap.mkv").sound
    assert len(sound) == pytest.approx(5 * RATE, abs=RATE // 20)
    assert loudest_hertz(sound[4 * RATE :]) == pytest.approx(1000, abs=2)
    assert np.abs(sound[int(1.2 * RATE) : int(2.3 * RATE)]).max() < 100


def cuts_of(got: Pass) -> list[int]:
    features = FeatureBuilder()
    features.add(got.frames, got.times_us)
    return [transition.at_us for transition in detect_transitions(features.build())]


@pytest.mark.parametrize("encoder", [X264, ("-c:v", "libx265", "-x265-params", "log-level=0")], ids=["h264", "hevc"])
def test_unreferenced_frames_are_skipped_without_losing_a_cut(
    encoder: tuple[str, ...], decoded: Decode, tmp_path: Path
) -> None:
    got = decoded(write_film(tmp_path / "f.mp4", textured(5, 40), 25, "-bf", 3, encoder=encoder))
    assert 40 < got.media.frame_count < 150, "a share of 200 frames"
    assert cuts_of(got) == [pytest.approx(shot * 1_600_000, abs=130_000) for shot in (1, 2, 3, 4)]
    assert got.media.duration_us == 8_000_000


def test_all_frames_are_decoded_where_skipping_would_leave_wide_gaps(decoded: Decode, tmp_path: Path) -> None:
    sparse = ("-bf", 3, "-x264-params", "b-adapt=0:b-pyramid=none")
    path = write_film(tmp_path / "f.mp4", textured(2, 20), 10, *sparse)
    video = probe_media(path).video
    assert video is not None
    assert video.has_b_frames
    assert decoded(path).media.frame_count == 40


def test_stream_without_times_is_decoded_in_full(decoded: Decode, colour_film: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw.h264"
    raw.write_bytes(ffmpeg("-i", colour_film, "-c:v", "copy", "-an", "-bsf:v", "h264_mp4toannexb", "-f", "h264", "-"))
    got = decoded(raw)
    assert [name for _, name in got.kept] == list(COLOUR_FILM)
    assert got.media.duration_us == pytest.approx(4_000_000, abs=40_000)


def test_length_that_the_header_does_not_tell_is_measured(decoded: Decode, colour_film: Path, tmp_path: Path) -> None:
    streamed = tmp_path / "s.webm"
    vp8 = ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus", "-f", "webm")
    streamed.write_bytes(ffmpeg("-i", colour_film, *vp8, "-"))
    got = decoded(streamed)
    assert got.info.duration_us is None
    assert got.media.duration_us == pytest.approx(4_000_000, abs=30_000)


@pytest.mark.parametrize("count", [1, 65])
def test_last_frame_counts_with_its_length(count: int, decoded: Decode, tmp_path: Path) -> None:
    streamed = tmp_path / "s.webm"
    film = write_film(tmp_path / "f.mp4", plain(["red"], count), 25)
    streamed.write_bytes(ffmpeg("-i", film, "-c:v", "libvpx", "-f", "webm", "-"))
    assert decoded(streamed).media.duration_us == pytest.approx(count * 40_000, abs=2000)


def test_picture_that_stays_to_the_end_is_not_missing(decoded: Decode, tmp_path: Path) -> None:
    """A slide show: the last slide is one frame that is shown for ten seconds."""
    for number, name in enumerate(("red", "blue")):
        write_image(tmp_path / f"{number}.png", plain([name], 1))
    script = tmp_path / "slides.ffconcat"
    script.write_text("file '0.png'\nduration 1\nfile '1.png'\nduration 10\nfile '1.png'\n")
    for suffix in ("mp4", "mkv"):
        ffmpeg("-f", "concat", "-i", script, "-fps_mode", "vfr", *X264, tmp_path / f"s.{suffix}")
        got = decoded(tmp_path / f"s.{suffix}")
        assert got.media.duration_us == got.info.duration_us
        assert (got.media.truncated, got.media.warnings) == (False, ())
    ffmpeg("-loop", 1, "-framerate", 0.1, "-t", 10, "-i", tmp_path / "0.png", *X264, tmp_path / "one.mp4")
    got = decoded(tmp_path / "one.mp4")
    assert (got.media.duration_us, got.media.truncated, got.media.frame_count) == (10_000_000, False, 1)


def test_picture_that_stays_while_subtitles_run_is_not_missing(decoded: Decode, tmp_path: Path) -> None:
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:30,000\nHello\n")
    film = write_film(tmp_path / "f.mp4", plain(["red", "blue"], 10), 10)
    ffmpeg("-i", film, "-i", tmp_path / "words.srt", "-c:v", "copy", tmp_path / "f.mkv")
    got = decoded(tmp_path / "f.mkv")
    assert (got.media.duration_us, got.media.truncated) == (pytest.approx(30_000_000, abs=100_000), False)


def test_last_frame_after_a_full_block_counts_with_its_length() -> None:
    sinks = DecodeSinks(lambda frames, times_us: None, lambda samples: None)
    for block in (64, 1):
        times = range(sinks.frame_count, sinks.frame_count + block)
        sinks.times.add(b"".join(b"frame:0 pts:%d pts_time:0\n" % (number * 40_000) for number in times))
        sinks.add_frames(bytes(block * 64 * 36 * 3))
    sinks.finish()
    assert (sinks.frame_count, sinks.last_us, sinks.step_us) == (65, 64 * 40_000, 40_000)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flac", "mp3", "m4a"])
def test_truncated_file_is_told_and_gives_what_it_has(suffix: str, decoded: Decode, tmp_path: Path) -> None:
    path, fast = tmp_path / f"f.{suffix}", ("-movflags", "+faststart") if suffix in ("mp4", "m4a") else ()
    if suffix in ("mp4", "mkv"):
        write_film(path, textured(5, 40), 20, *fast, sound=[tone(440, 10)])
    else:
        write_sound(path, tone(440, 10), *fast)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    got = decoded(path)
    assert got.media.truncated
    assert 2_000_000 < got.media.duration_us < 8_000_000
    (truncated,) = (warning for warning in got.media.warnings if warning.code == "truncated")
    assert "the file declares 10.0 s, but only " in truncated.message
    assert got.media.damaged_share == pytest.approx(0.5, abs=0.2)
    assert all(frame.time_us < got.media.duration_us for frame in got.media.frames)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
def test_image_gives_one_picture_and_no_length(suffix: str, decoded: Decode, tmp_path: Path) -> None:
    picture = write_image(tmp_path / f"p.{suffix}", halves("red", "blue", (120, 80)), "-frames:v", 1)
    got = decoded(picture)
    assert (got.media.duration_us, got.media.frame_count, got.media.audio_file) == (0, 1, None)
    assert got.media.warnings == ()
    assert [frame.time_us for frame in got.media.frames] == [0]
    assert [colour_of(half) for half in np.split(got.picture(0), 2)] == ["red", "blue"]


def test_large_image_is_made_smaller_and_keeps_its_shape(decoded: Decode, tmp_path: Path) -> None:
    got = decoded(write_image(tmp_path / "p.png", plain(["red"], 1, (3200, 800))))
    assert image_size(got.folder / got.media.frames[0].file) == (MAX_IMAGE_SIDE, MAX_IMAGE_SIDE // 4)


def test_grey_and_transparent_and_tiny_images_are_read(decoded: Decode, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for number, shape in enumerate([(1, 1), (31, 17, 4), (40, 40, 3)]):
        pillow.fromarray(np.full(shape, 128, np.uint8)).save(tmp_path / f"{number}.png")
        assert len(decoded(tmp_path / f"{number}.png").media.frames) == 1


def test_broken_pictures_leave_the_sound(decoded: Decode, tmp_path: Path) -> None:
    film = write_film(tmp_path / "f.mkv", textured(2, 20, (96, 64)), 10, sound=[tone(440, 4)])
    broken = tmp_path / "b.mkv"
    ffmpeg("-i", film, "-c", "copy", "-bsf:v", "noise=amount=1", broken)
    got = decoded(broken)
    assert loudest_hertz(got.sound) == pytest.approx(440, abs=1)
    assert got.media.frame_count == 0
    assert "video_not_decoded" in [warning.code for warning in got.media.warnings]
    assert got.media.duration_us == pytest.approx(4_000_000, abs=50_000)


def test_no_more_than_the_longest_duration_is_decoded(decoded: Decode, tmp_path: Path) -> None:
    streamed = tmp_path / "endless.flac"
    streamed.write_bytes(ffmpeg("-i", write_sound(tmp_path / "s.wav", silence(20)), "-f", "flac", "-"))
    got = decoded(streamed, MediaLimits(max_duration_s=5))
    assert got.media.duration_us == pytest.approx(5_000_000, abs=10_000)


def test_memory_limit_ends_the_pass(decoded: Decode, tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=4096x2160:r=5:d=2", "-c:v", "mpeg4", "-q:v", 9, path)
    assert decoded(path).media.frame_count == 10
    with pytest.raises(MediaError) as caught:
        decoded(path, MediaLimits(decode_memory_bytes=400 << 20))
    assert caught.value.code == "decode_out_of_memory"
    assert str(path) in caught.value.message


def test_deadline_ends_the_pass(decoded: Decode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_MIN_DEADLINE_S", 0.01)
    path = write_film(tmp_path / "f.mp4", plain(["red"], 50, (640, 360)), 25, *EVERY_FRAME)
    with pytest.raises(MediaError) as caught:
        decoded(path, MediaLimits(decode_deadline_factor=0.001))
    assert caught.value.code == "decode_timeout"
    assert caught.value.retryable


def test_stop_flag_ends_the_pass(tmp_path: Path) -> None:
    path = write_film(tmp_path / "f.mp4", plain(["red"], 1500, (64, 36)), 25, *EVERY_FRAME)
    counts: list[int] = []
    with pytest.raises(MediaError) as caught:
        decode_media(
            probe_media(path),
            tmp_path,
            SamplingSettings(),
            MediaLimits(),
            lambda frames, times_us: counts.append(len(frames)),
            lambda samples: None,
            lambda: bool(counts),
        )
    assert caught.value.code == "cancelled"
    assert 0 < sum(counts) < 1500


def test_error_of_a_taker_is_raised(colour_film: Path, tmp_path: Path) -> None:
    def fail(samples: Sound) -> None:
        raise RuntimeError("the taker failed")

    def take(frames: Pictures, times_us: NDArray[np.int64]) -> None: ...

    with pytest.raises(RuntimeError, match="the taker failed"):
        decode_media(probe_media(colour_film), tmp_path, SamplingSettings(), MediaLimits(), take, fail)


def test_nothing_but_pictures_and_sound_is_left(decoded: Decode, colour_film: Path, own_temporary_folder: Path) -> None:
    got = decoded(colour_film)
    assert sorted(path.name for path in got.folder.iterdir()) == ["audio.flac", "frames"]
    assert tempfile.gettempdir() == str(own_temporary_folder)
    assert list(own_temporary_folder.iterdir()) == []


@pytest.mark.parametrize("name", ["out %d 100%", 'it\'s "out"', "a:b", "-out", "ünï 日本"])
def test_name_of_the_folder_does_not_matter(name: str, colour_film: Path, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    sampling, limits = SamplingSettings(), MediaLimits()
    info = probe_media(colour_film)
    media = decode_media(info, tmp_path / name, sampling, limits, lambda frames, times: None, lambda samples: None)
    assert len(media.frames) == 4
    assert all((tmp_path / name / frame.file).stat().st_size > 0 for frame in media.frames)
    assert len(read_sound(tmp_path / name / "audio.flac")) == 4 * RATE


def test_relative_folder_is_that_of_this_process(
    colour_film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-a:b").mkdir()
    decode_media(
        probe_media(colour_film), Path("-a:b"), SamplingSettings(), MediaLimits(), lambda f, t: None, lambda s: None
    )
    assert (tmp_path / "-a:b" / "frames" / "00000004.jpg").is_file()


STEREO = ("-ar", 44_100, "-ac", 2)
SMALL, WIDE, TALL = (160, 120), (320, 180), (120, 240)


def part_of(
    start_s: float, colour: str, size: tuple[int, int], *options: object
) -> tuple[float, Pictures, Sound, tuple[object, ...]]:
    """3 s of a colour, with a tone from the second second to the third."""
    sound = np.concatenate([silence(1), tone(440, 1), silence(1)])
    return start_s, plain([colour], 75, size), sound, options


@pytest.mark.parametrize("later_s", [3.1, 6.0], ids=["at once", "after a gap"])
@pytest.mark.parametrize(
    ("size", "options"),
    [
        (SMALL, STEREO),
        (WIDE, STEREO),
        (SMALL, ("-ar", 22_050, "-ac", 2)),
        (SMALL, ("-ar", 44_100, "-ac", 1)),
        (SMALL, ("-ar", 48_000, "-ac", 6, "-c:a", "ac3")),
        (TALL, ("-ar", 22_050, "-ac", 1)),
        (SMALL, (*STEREO, "-pix_fmt", "yuv444p")),
        (SMALL, (*STEREO, "-color_range", "pc", "-vf", "scale=out_range=pc:out_color_matrix=bt709")),
    ],
    ids=["nothing", "size", "sample rate", "channels", "six channels", "all", "pixel format", "colour range"],
)
def test_times_stay_right_when_parameters_change_on_the_way(
    size: tuple[int, int], options: tuple[object, ...], later_s: float, decoded: Decode, tmp_path: Path
) -> None:
    first = STEREO if "ac3" not in options else (*STEREO, "-c:a", "ac3")
    parts = part_of(0, "red", SMALL, *first), part_of(later_s, "green", size, *options)
    got = decoded(write_changing_film(tmp_path / "f.ts", *parts))
    end_s = later_s + 3
    expected = [
        pytest.approx((start, start + 1), abs=0.12) for start in (1, later_s + 1)
    ]  # gaps below 0.1 s are not filled
    assert sounding_s(got.sound) == expected
    assert sounding_s(read_sound(got.folder / "audio.flac")) == expected
    assert len(got.sound) / RATE == pytest.approx(end_s, abs=0.12)
    assert got.media.duration_us / 1e6 == pytest.approx(end_s, abs=0.12)
    assert np.diff(got.times_us).min() > 0
    assert got.times_us[-1] / 1e6 == pytest.approx(end_s - 0.04, abs=0.12)
    assert {name for time_us, name in got.kept if time_us < 2_900_000} == {"red"}
    assert {name for time_us, name in got.kept if time_us > (later_s + 0.1) * 1e6} == {"green"}
    assert colour_of(got.frames[10]) == "red"
    assert colour_of(got.frames[-10]) == "green"


@pytest.mark.parametrize(
    ("first", "later", "shown"),
    [
        (SMALL, WIDE, (160, 90)),
        (SMALL, TALL, (60, 120)),
        (WIDE, SMALL, (240, 180)),
        (SMALL, (320, 240), SMALL),
        ((161, 91), (161, 91), (162, 92)),
    ],
)
def test_pictures_of_another_size_are_letterboxed_undistorted(
    first: tuple[int, int], later: tuple[int, int], shown: tuple[int, int], decoded: Decode, tmp_path: Path
) -> None:
    odd = ("-pix_fmt", "yuv444p")
    parts = part_of(0, "blue", first, *STEREO, *odd), part_of(3.1, "white", later, *STEREO, *odd)
    got = decoded(write_changing_film(tmp_path / "f.ts", *parts))
    frame = tuple(side + side % 2 for side in first)
    assert {image_size(got.folder / kept.file) for kept in got.media.frames} == {frame}
    last = got.picture(len(got.media.frames) - 1).astype(int).mean(axis=2)
    rows, columns = np.flatnonzero(last.mean(axis=1) > 60), np.flatnonzero(last.mean(axis=0) > 60)
    assert (columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1) == pytest.approx(shown, abs=2)
    assert columns[0] == pytest.approx((frame[0] - shown[0]) / 2, abs=2)
    assert rows[0] == pytest.approx((frame[1] - shown[1]) / 2, abs=2)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("resolution_change.ts", 9.96), ("sound_change.ts", 9.96), ("colour_change_concat.mp4", 10.08)],
)
def test_real_files_whose_parameters_change(
    name: str, seconds: float, decoded: Decode, real_media: Callable[[str], Path]
) -> None:
    got = decoded(real_media(f"hard/{name}"))
    assert got.media.duration_us / 1e6 == pytest.approx(seconds, abs=0.05)
    assert len(got.sound) / RATE == pytest.approx(seconds, abs=0.05)
    assert len(read_sound(got.folder / "audio.flac")) == len(got.sound)
    assert got.times_us[-1] / 1e6 == pytest.approx(seconds - 0.06, abs=0.05)


def test_real_film(decoded: Decode, real_media: Callable[[str], Path]) -> None:
    got = decoded(real_media("big_buck_bunny_0_30.webm"))
    assert len(got.media.frames) == pytest.approx(30, abs=1)
    assert image_size(got.folder / got.media.frames[0].file) == (854, 480)
    assert len(got.sound) / RATE == pytest.approx(30, abs=0.5)
    assert np.diff(got.times_us).min() > 0
