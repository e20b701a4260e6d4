"""Answers to requests that mark segments: known segments of the item, as far as they are in the stretch of the request."""

import math
import re

_STRETCH = re.compile(r"This stretch is ([0-9:.]+) to ([0-9:.]+) of")
_EVERY_S = 5  # length of the segments of an item without known ones


def is_marking(schema):
    """Whether a response schema is a list of segments with start, end and label."""
    segments = ((schema or {}).get("properties") or {}).get("segments") or {}
    return {"start", "end", "label"} <= set(segments.get("items", {}).get("properties", {}))


def marks_for(text, marks=None):
    """Return the answer for the stretch that a request's text names.

    Args:
        marks: (start, end, label) of the item's segments, in seconds; None makes one every 5 s.
    """
    start, end = (_seconds(part) for part in _STRETCH.search(text).groups())
    if marks is None:
        cuts = range(0, math.ceil(end / _EVERY_S))
        marks = [(number * _EVERY_S, (number + 1) * _EVERY_S, f"part {number}") for number in cuts]
    inside = [
        (max(first, start), min(last, end), label) for first, last, label in marks if first < end and last > start
    ]
    return {
        "segments": [
            {"start": round(first - start, 3), "end": round(last - start, 3), "label": label}
            for first, last, label in inside
            if last - first >= 2
        ]
    }


def _seconds(timecode):
    seconds = 0.0
    for part in timecode.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds
