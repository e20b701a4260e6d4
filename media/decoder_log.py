"""Parse what ffmpeg reports during decoding: errors, concealed frames, and the decoded amount of each stream."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

# Options that make ffmpeg report in the form parsed here: every message on its own line with its level, and the counters
# of the streams at the end.
LOG_LEVEL: Final = "repeat+level+verbose"
# Verify checksums (FLAC, PNG, Ogg, MPEG audio) and bitstream syntax, but decode what is left instead of giving up.
ERROR_DETECTION: Final = "crccheck+bitstream+buffer+careful"

_MESSAGE: Final = re.compile(
    r"^(?P<context>(?:\[[^\]]*\] )*)\[(?P<level>panic|fatal|error|warning|info|verbose)\] (?P<text>.*)$"
)
_CONTEXT: Final = re.compile(r"\[([^\]@]*?)(?: @ 0x[0-9a-f]+)?\]")
_INPUT_STREAM: Final = re.compile(
    r"Input stream #0:(\d+) \(\w+\): (\d+) packets read .*?(\d+) frames decoded; (\d+) decode errors"
)
_OUTPUT_SAMPLES: Final = re.compile(r"Output stream #\d+:0 \(audio\): \d+ frames encoded \((\d+) samples\)")
# Errors of ffmpeg's own outputs and threads, which follow from an error already counted or are unrelated to the file.
_NOT_OF_THE_FILE: Final = re.compile(
    r"non monotonically increasing dts|^(Task finished|Terminating thread)|Nothing was written|Could not open encoder"
    r"|Error sending frames|Error while filtering"
)
_CONCEALED: Final = "corrupt decoded frame"
_MAX_DISTINCT: Final = 20
_MAX_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class StreamReport:
    """ffmpeg's counters of one stream."""

    packets: int
    frames: int
    decode_errors: int


class DecoderLog:
    """Collects the messages of one ffmpeg process, line by line.

    Attributes:
        errors: number of error messages about the file.
        concealed_frames: frames that the decoder marks as damaged.
        streams: the counters by stream index, once ffmpeg has ended normally.
        encoded_samples: samples of the audio output, once ffmpeg has ended normally.
        jpeg_end_missing: a JPEG ends before its end marker.
    """

    def __init__(self) -> None:
        self.errors = 0
        self.concealed_frames = 0
        self.streams: dict[int, StreamReport] = {}
        self.encoded_samples: int | None = None
        self.jpeg_end_missing = False
        self._distinct: Counter[str] = Counter()
        self._last_error = ""
        self._rest = b""

    def add(self, block: bytes) -> None:
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._add_line(line.decode("utf-8", "replace"))

    @property
    def decode_errors(self) -> int:
        """Number of errors and concealed frames; 0 if ffmpeg found nothing wrong."""
        return self.errors + self.concealed_frames

    def summary(self) -> str:
        """The most frequent distinct messages, with their counts, on one line."""
        parts = [text if count == 1 else f"{text} (x{count})" for text, count in self._distinct.most_common(3)]
        return "; ".join(parts)

    def error_text(self) -> str:
        """The distinct error messages, one per line, the last one last."""
        others = [text for text in self._distinct if text != self._last_error]
        return "\n".join([*others, *([self._last_error] if self._last_error else [])])

    def _add_line(self, line: str) -> None:
        match = _MESSAGE.match(line)
        if match is None:
            return
        level, text = match["level"], match["text"].strip()
        if level in ("panic", "fatal", "error"):
            self._add_error(match["context"], text)
        elif level == "warning":
            self.concealed_frames += text == _CONCEALED
            self.jpeg_end_missing |= text.startswith("EOI missing")
        elif level == "verbose":
            self._add_counters(text)

    def _add_error(self, context: str, text: str) -> None:
        if _NOT_OF_THE_FILE.search(text):
            return
        self.errors += 1
        message = describe_message(context, text)
        self._last_error = message
        if message in self._distinct or len(self._distinct) < _MAX_DISTINCT:
            self._distinct[message] += 1

    def _add_counters(self, text: str) -> None:
        if found := _INPUT_STREAM.match(text):
            index, packets, frames, errors = map(int, found.groups())
            self.streams[index] = StreamReport(packets, frames, errors)
        elif found := _OUTPUT_SAMPLES.match(text):
            self.encoded_samples = int(found[1])


def describe_message(context: str, text: str) -> str:
    """Return a message without memory addresses and with masked numbers, so that the same fault yields the same text.

    >>> describe_message("[h264 @ 0x55a0] ", "error while decoding MB 9 2, bytestream 1091")
    'h264: error while decoding MB N N, bytestream N'
    """
    names = [name.strip() for name in _CONTEXT.findall(context)]
    masked = re.sub(r"-?\b\d+\b", "N", re.sub(r" @ 0x[0-9a-f]+", "", text))
    return f"{names[-1]}: {masked}"[:_MAX_CHARS] if names else masked[:_MAX_CHARS]
