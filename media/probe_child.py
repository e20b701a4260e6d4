"""Print a media file's header as JSON. `promptreel.media.probe` runs this as a bounded child and never imports it.

python -I probe_child.py PATH FORMAT|- FORMAT_WHITELIST PROTOCOL_WHITELIST MAX_PIXELS
"""

from __future__ import annotations

import json
import sys
from typing import Any

import av


def describe(
    path: str, container_format: str, format_whitelist: str, protocol_whitelist: str, max_pixels: int
) -> dict[str, Any]:
    """Return the header as JSON values. Decodes one frame for the rotation, which some containers store with the frames."""
    options = {"format_whitelist": format_whitelist, "protocol_whitelist": protocol_whitelist}
    name = None if container_format == "-" else container_format
    with av.open(path, format=name, options=options) as container:
        streams = [_stream(stream) for stream in container.streams if stream.type in ("video", "audio")]
        header = {
            "format": container.format.name,
            "duration_us": container.duration,
            "start_us": container.start_time,
            "streams": streams,
            "rotation": 0,
        }
        video = [s for s in streams if s["type"] == "video" and not s["attached_picture"]]
        if video and video[0]["width"] * video[0]["height"] <= max_pixels:
            header["rotation"] = _rotation(container, video[0]["index"])
    return header


def _stream(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    fields = {"index": stream.index, "type": stream.type, "codec": context.name if context is not None else None}
    fields["default"] = bool(stream.disposition & av.stream.Disposition.default)
    fields["attached_picture"] = bool(stream.disposition & av.stream.Disposition.attached_pic)
    fields["duration_us"] = int(stream.duration * stream.time_base * 1_000_000) if stream.duration else None
    fields["start_us"] = (
        int(stream.start_time * stream.time_base * 1_000_000) if stream.start_time is not None else None
    )
    if stream.type == "video":
        rate = stream.average_rate or stream.guessed_rate
        fields |= {"width": context.width if context else 0, "height": context.height if context else 0}
        fields["pixel_aspect"] = float(stream.sample_aspect_ratio or 1) if context else 1.0
        fields |= {"frame_rate": float(rate) if rate else None, "frames": stream.frames}
        fields["has_b_frames"] = bool(context and context.has_b_frames)
    else:
        fields |= {"sample_rate": context.sample_rate if context else 0, "channels": context.channels if context else 0}
        fields["language"] = stream.language or stream.metadata.get("language")
    return fields


def _rotation(container: Any, index: int) -> int:
    """Return the display rotation in degrees clockwise; PyAV reports it counter-clockwise."""
    try:
        stream = container.streams[index]
        stream.thread_count = 1
        if stream.codec_context.name == "mjpeg":
            stream.codec_context.options = {"lowres": "3"}  # an eighth of the size: only the metadata is used
        frame = next(container.decode(stream))
        return -int(frame.rotation) % 360
    except (av.error.FFmpegError, StopIteration, MemoryError):
        return 0


if __name__ == "__main__":
    path, container_format, formats, protocols, pixels = sys.argv[1:6]
    try:
        print(json.dumps(describe(path, container_format, formats, protocols, int(pixels))))
    except (av.error.FFmpegError, MemoryError, ValueError) as error:
        print(json.dumps({"error": getattr(error, "strerror", None) or str(error), "kind": type(error).__name__}))
