"""Print what the packets of a file tell about its clock as JSON. `promptreel.media.timestamps` runs this as a bounded child.

python -I timestamps_child.py PATH FORMAT_WHITELIST PROTOCOL_WHITELIST STREAM...
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import av


def read_clock(path: str, options: dict[str, str], indexes: Sequence[int]) -> dict[str, int | bool]:
    """Return the largest step back and forward between decode times of one stream, in microseconds, and whether the sample
    rate changes."""
    back = forward = 0
    last: dict[int, int] = {}
    rates = set()
    with av.open(path, options=options) as container:
        for packet in container.demux([container.streams[index] for index in indexes]):
            if packet.dts is None or packet.time_base is None:
                continue
            if packet.stream.type == "audio":
                rates.add(rate_code(bytes(packet)[:3]))
            time_us = int(packet.dts * packet.time_base * 1_000_000)
            step = time_us - last.get(packet.stream_index, time_us)
            back, forward = max(back, -step), max(forward, step)
            last[packet.stream_index] = time_us
    return {"back_us": back, "forward_us": forward, "changes_sample_rate": len(rates - {None}) > 1}


def rate_code(head: bytes) -> tuple[int, int] | None:
    """Return the code of the sample rate in the header of an AAC (ADTS) or MPEG audio frame; None for others."""
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer, version = head[1] >> 1 & 0b11, head[1] >> 3 & 0b11
    return (0, head[2] >> 2 & 0b1111) if layer == 0 else (version + 1, head[2] >> 2 & 0b11)


if __name__ == "__main__":
    path, formats, protocols, *streams = sys.argv[1:]
    options = {"format_whitelist": formats, "protocol_whitelist": protocols}
    try:
        print(json.dumps(read_clock(path, options, [int(stream) for stream in streams])))
    except (av.error.FFmpegError, MemoryError, ValueError) as error:
        sys.exit(str(error))
