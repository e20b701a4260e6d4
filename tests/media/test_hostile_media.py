"""Hostile files: each yields an analysis or a failure with a code, and opens no other file or address."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from promptreel.media.analysis import MediaAnalysis, analyze_media
from promptreel.media.probe import probe_media
from promptreel.schemas.errors import MediaError
from promptreel.schemas.failure_codes import FAILURE_CODES
from promptreel.schemas.settings import MediaLimits, SamplingSettings
from tests.media_files import ffmpeg, halves, textured, tone, write_film, write_image, write_sound

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def outcome(path: Path, folder: Path) -> MediaAnalysis | MediaError:
    """Return the analysis of a file, or its failure. Any other error is a bug and is raised."""
    folder.mkdir()
    try:
        return analyze_media(probe_media(path), folder, SamplingSettings(), MediaLimits())
    except MediaError as error:
        failure = error
    assert failure.code in FAILURE_CODES
    assert path.name in failure.message
    return failure


def outcome_name(result: MediaAnalysis | MediaError) -> str:
    return result.code if isinstance(result, MediaError) else "analysed"


# Files that reference others. SECRET is replaced by the path of a local file, URL by an address.

TEXTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nSECRET\n#EXTINF:5,\nURL/a.ts\n#EXT-X-ENDLIST\n",
    "hls key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="URL/key"\n#EXTINF:5,\nSECRET\n#EXT-X-ENDLIST\n',
    "hls master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nURL/list.m3u8\n",
    "hls after a mark": "\ufeff#EXTM3U\n#EXTINF:5,\nURL/a.ts\n",
    "ffconcat": "ffconcat version 1.0\nfile 'SECRET'\nfile 'URL/b.mp4'\n",
    "ffconcat beside": "ffconcat version 1.0\nfile secret.ts\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video PORT RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" mimeType="video/mp4"><BaseURL>URL/v.mp4</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><image href="file://SECRET"/>'
    '<image href="URL/i"/></svg>',
    "pls": "[playlist]\nNumberOfEntries=1\nFile1=URL/s.mp3\n",
    "asx": '<asx version="3.0"><entry><ref href="URL/s.wmv"/></entry></asx>',
    "smil": '<smil><body><video src="URL/v.mp4"/><video src="SECRET"/></body></smil>',
    "rtsp text": "RTSPtextrtsp://127.0.0.1:PORT/film\n",
    "asf reference": "[Reference]\nRef1=URL/v.asf\n",
    "avisynth": 'AVISource("SECRET")\n',
    "ram": "URL/s.rm\n",
    "edl": "# mpv EDL v0\nSECRET,0,5\nURL/v.mp4,0,5\n",
    "subtitle index": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 000000000\n",
}
SUFFIXES = ("m3u8", "ffconcat", "mp4", "mkv", "mp3", "jpg", "ts", "txt")


def atom(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def reference_movie(target: bytes) -> bytes:
    """Return a QuickTime file without media that references another file."""
    reference = atom(b"rdrf", bytes(4), b"url ", struct.pack(">I", len(target) + 1), target, b"\0")
    return atom(b"ftyp", b"qt  ", bytes(8)) + atom(b"moov", atom(b"rmra", atom(b"rmda", reference)))


def linked_cover(sound: bytes, target: bytes) -> bytes:
    """Return an MP3 with a URL as its cover picture."""
    body = b"\0-->\0\3\0" + target
    frame = b"APIC" + struct.pack(">I", len(body)) + b"\0\0" + body
    return b"ID3\3\0\0" + bytes((0, 0, len(frame) >> 7 & 127, len(frame) & 127)) + frame + sound


@pytest.fixture
def canary() -> Iterator[tuple[str, int, list[str]]]:
    """A local server: (address, port, received requests)."""
    with canary_server() as found:
        yield found


@contextmanager
def canary_server() -> Iterator[tuple[str, int, list[str]]]:
    hits: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.server_port, hits
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_files_that_reference_others_open_nothing(canary: tuple[str, int, list[str]], tmp_path: Path) -> None:
    address, port, hits = canary
    secret = write_film(tmp_path / "secret.ts", textured(1, 25, (64, 48)), 25, sound=[tone(1234, 1)])
    sound = write_sound(tmp_path / "s.mp3", tone(440, 1)).read_bytes()
    files: dict[str, bytes] = {}
    for kind, text in TEXTS.items():
        filled = text.replace("SECRET", str(secret)).replace("URL", address).replace("PORT", str(port))
        for suffix in SUFFIXES if kind in ("hls", "ffconcat beside") else ("mp4",):
            files[f"{kind}.{suffix}"] = filled.encode()
        files[f"{kind} with a beginning.mp4"] = b"\0\0\0\x08free" + filled.encode()
    for target in (address.encode() + b"/v.mp4", b"file://" + str(secret).encode()):
        files[f"reference {len(files)}.mov"] = reference_movie(target)
        files[f"cover {len(files)}.mp3"] = linked_cover(sound, target)
    outcomes = {}
    for number, (name, data) in enumerate(files.items()):
        path, folder = tmp_path / name, tmp_path / f"out{number}"
        path.write_bytes(data)
        outcomes[name] = outcome_name(outcome(path, folder))
        if not name.startswith("cover"):
            assert outcomes[name] != "analysed", name
            assert [file for file in folder.rglob("*") if file.is_file()] == [], name
    assert hits == []
    assert len(files) >= 40
    assert {outcomes[f"hls.{suffix}"] for suffix in SUFFIXES} == {"media_unsupported"}
    assert all(end == "analysed" for name, end in outcomes.items() if name.startswith("cover"))


def test_canary_and_secret_are_reached_without_the_whitelists(
    canary: tuple[str, int, list[str]], tmp_path: Path
) -> None:
    """Verify the test itself: without whitelists, the same decoder reads the entries of the playlist."""
    address, _, hits = canary
    secret = write_film(tmp_path / "secret.ts", textured(1, 25, (64, 48)), 25)
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile '{secret}'\n")
    assert len(ffmpeg("-safe", 0, "-i", playlist, "-f", "rawvideo", "-")) > 0
    playlist.write_text(f"ffconcat version 1.0\nfile '{address}/x.ts'\n")
    with pytest.raises(AssertionError):
        ffmpeg("-safe", 0, "-protocol_whitelist", "file,http,tcp", "-i", playlist, "-f", "null", "-")
    assert hits == ["/x.ts"]


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small files of several formats, by name."""
    folder = tmp_path_factory.mktemp("victims")
    pictures = textured(2, 12, (96, 64))
    index_first = ("-movflags", "+faststart")
    vp8 = ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus")
    made = [
        write_film(folder / "first.mp4", pictures, 12, *index_first, sound=[tone(440, 2)]),
        write_film(folder / "last.mp4", pictures, 12, sound=[tone(440, 2)]),
        write_film(folder / "v.webm", pictures, 12, encoder=vp8, sound=[tone(440, 2)]),
        write_film(folder / "v.avi", pictures, 12, encoder=("-c:v", "mpeg4", "-bf", "2"), sound=[tone(440, 2)]),
        write_film(folder / "v.ts", pictures, 12, sound=[tone(440, 2)]),
        write_sound(folder / "s.mp3", tone(440, 2)),
        write_sound(folder / "s.flac", tone(440, 2)),
        write_sound(folder / "s.wav", tone(440, 2)),
        write_image(folder / "p.png", halves("red", "blue", (96, 64))),
        write_image(folder / "p.jpg", halves("red", "blue", (96, 64)), "-update", 1),
        write_image(folder / "p.gif", textured(1, 3, (96, 64))),
        write_image(folder / "p.webp", halves("red", "blue", (96, 64)), "-c:v", "libwebp"),
    ]
    return {path.name: path.read_bytes() for path in made}


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 3, 20, 200))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def damage_head(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 4, 16))):
        damaged[rng.randrange(min(600, len(damaged)))] = rng.choice((0, 1, 127, 128, 255))
    return bytes(damaged)


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content))]


def remove_block(content: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(content))
    return content[:first] + content[first + rng.randrange(1, 2000) :] or b"\0"


def enlarge_numbers(content: bytes, rng: random.Random) -> bytes:
    """Write huge numbers into the index of an MP4, or the head of another file."""
    damaged = bytearray(content)
    start = max(content.find(b"moov"), 0)
    for _ in range(3):
        offset = min(start + rng.randrange(4, 700), len(damaged) - 4)
        damaged[offset : offset + 4] = rng.choice(
            (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x10\0\0\0")
        )
    return bytes(damaged)


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bits,
    damage_head,
    cut,
    remove_block,
    enlarge_numbers,
)


def damaged_files(victims: dict[str, bytes], seeds: range) -> Iterator[tuple[str, bytes]]:
    for seed in seeds:
        for number, (name, content) in enumerate(victims.items()):
            damage = DAMAGES[(seed + number) % len(DAMAGES)]
            yield f"{seed}-{damage.__name__}-{name}", damage(content, random.Random(f"{seed}{name}"))


def check_damaged_files(files: Iterator[tuple[str, bytes]], folder: Path) -> dict[str, str]:
    outcomes = {}
    for name, content in files:
        path = folder / name
        path.write_bytes(content)
        result = outcome(path, folder / f"out-{name}")
        outcomes[name] = outcome_name(result)
        if isinstance(result, MediaAnalysis):
            times = [frame.time_us for frame in result.frames]
            assert times == sorted(times), name
            assert result.duration_us >= 0, name
            assert all(0 <= span.start_us < span.end_us for span in result.activity.spans), name
            assert all((folder / f"out-{name}" / frame.file).stat().st_size > 0 for frame in result.frames), name
    return outcomes


def test_damaged_files_yield_a_result_or_a_failure(victims: dict[str, bytes], tmp_path: Path) -> None:
    outcomes = check_damaged_files(damaged_files(victims, range(5)), tmp_path)
    assert len(outcomes) == 60
    assert "internal_error" not in outcomes.values()
    assert len(set(outcomes.values())) > 2  # some damage is harmless, some is not


@pytest.mark.slow
def test_many_damaged_files_yield_a_result_or_a_failure(victims: dict[str, bytes], tmp_path: Path) -> None:
    assert len(check_damaged_files(damaged_files(victims, range(5, 25)), tmp_path)) == 240


@pytest.mark.parametrize("name", ["film.mp4", "sound.mp3", "picture.jpg", "film.ts"])
def test_random_bytes_yield_a_result_or_a_failure(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(random.Random(name).randbytes(100_000))
    outcome(tmp_path / name, tmp_path / "out")


def test_picture_bomb_is_rejected_before_decoding(tmp_path: Path) -> None:
    black = ("-f", "lavfi", "-i", "color=black:s=8192x8192:r=1:d=1")
    ffmpeg(*black, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", tmp_path / "bomb.mp4")
    result = outcome(tmp_path / "bomb.mp4", tmp_path / "out")
    assert isinstance(result, MediaError)
    assert result.code == "media_too_large"
    assert list((tmp_path / "out").iterdir()) == []
