"""Films with known contents, and a reader that finds them in the pictures of a request.

Each scene has a background colour and a sign: a number from 0 to 63 as 2 x 3 black or white squares. A bright bar moves
along the lower edge, so that no two pictures are equal.
"""

import base64
import io
from dataclasses import dataclass

import av
import numpy as np

from tests.media_files import write_film

RATE = 5  # frames per second
WIDTH, HEIGHT = 320, 180
COLOURS = {
    "red": (170, 30, 30),
    "green": (30, 140, 40),
    "blue": (40, 60, 190),
    "yellow": (190, 180, 40),
    "violet": (130, 40, 150),
    "grey": (110, 110, 110),
}
_SQUARE = 40
_LEFT, _TOP = 100, 40  # of the sign


@dataclass(frozen=True)
class Scene:
    """A part of a film that shows one sign, and how long."""

    seconds: float
    colour: str
    sign: int

    @property
    def label(self):
        return f"{self.colour} {self.sign}"


def write_scenes(path, scenes, sound=True):
    """Write a film of scenes, with a tone."""
    pictures = []
    for scene in scenes:
        for _ in range(round(scene.seconds * RATE)):
            pictures.append(_draw(scene, len(pictures)))
    seconds = len(pictures) / RATE
    tone = (8000 * np.sin(np.arange(round(seconds * 16_000)) * 0.17)).astype(np.int16)
    return write_film(path, np.stack(pictures), RATE, sound=[tone] if sound else [])


def labels_of(scenes, start_s, end_s):
    """Return the labels of the scenes in a part of a film, in order of time."""
    found, at = [], 0.0
    for scene in scenes:
        if at < end_s and at + scene.seconds > start_s:
            found.append(scene.label)
        at += scene.seconds
    return list(dict.fromkeys(found))


def labels_in(pictures):
    """Return the labels of pictures uint8[h, w, 3], in order, each once."""
    return list(dict.fromkeys(_read(picture) for picture in pictures))


def sent_pictures(body):
    """Return the pictures of a request to Gemini or to an OpenAI-compatible server, decoded from what was sent."""
    if "messages" in body:
        parts = body["messages"][-1]["content"]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        files = [base64.b64decode(url.partition(",")[2]) for url in urls]
    else:
        data = [part["inlineData"] for part in body["contents"][0]["parts"] if "inlineData" in part]
        encoded = [part["data"] for part in data if not part["mimeType"].startswith("audio/")]
        files = [base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_")) for text in encoded]
    return [picture for content in files for picture in _decode(content)]


def _draw(scene, number):
    picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    picture[:] = COLOURS[scene.colour]
    for bit in range(6):
        row, column = divmod(bit, 3)
        top, left = _TOP + row * _SQUARE, _LEFT + column * _SQUARE
        picture[top : top + _SQUARE, left : left + _SQUARE] = 245 if scene.sign >> bit & 1 else 10
    left = number * 7 % (WIDTH - 20)
    picture[-12:, left : left + 20] = 250
    return picture


def _read(picture):
    """Return the label of a picture: the nearest colour at its upper edge, and the brightness of each square."""
    height, width = picture.shape[:2]

    def mean(left, top, size=8):
        x, y = round(left * width / WIDTH), round(top * height / HEIGHT)
        return picture[y : y + size, x : x + size].reshape(-1, 3).mean(axis=0)

    shown = mean(20, 10)
    colour = min(COLOURS, key=lambda name: np.abs(shown - COLOURS[name]).sum())
    centres = [
        (_LEFT + column * _SQUARE + _SQUARE // 2, _TOP + row * _SQUARE + _SQUARE // 2)
        for row in range(2)
        for column in range(3)
    ]
    sign = sum(1 << bit for bit, centre in enumerate(centres) if mean(*centre).mean() > 127)
    return f"{colour} {sign}"


def _decode(content):
    with av.open(io.BytesIO(content)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
