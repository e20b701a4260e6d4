"""Films of rendered slides, for tests of near-duplicate segments."""

import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from promptreel.media.ffmpeg import find_ffmpeg

TITLES = ("Quarterly results", "Our new warehouse", "Questions?")
SIZE = (854, 480)


def draw_slide(lines, *, ink=(20, 20, 20), paper=(250, 250, 245)):
    """Render lines of text of a common size on a slide."""
    image = Image.new("RGB", SIZE, paper)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((60, 50 + 36 * number), line, fill=ink, font=ImageFont.load_default(size=22))
    return image


def write_talk(path, slides, seconds_each, sound="anullsrc=r=16000:cl=mono"):
    """Encode a film that shows each slide for some seconds, compressed as lecture recordings are.

    Args:
        sound: a lavfi source; None for a film without sound.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [find_ffmpeg().path, "-v", "error", "-y"]
        for number, slide in enumerate(slides):
            file = Path(scratch) / f"{number}.png"
            slide.save(file)
            command += ["-loop", "1", "-framerate", "5", "-t", str(seconds_each), "-i", str(file)]
        inputs = "".join(f"[{number}:v]" for number in range(len(slides)))
        graph = f"{inputs}concat=n={len(slides)}:v=1[v]"
        command += ["-f", "lavfi", "-i", sound] if sound else []
        command += ["-filter_complex", graph, "-map", "[v]"]
        command += ["-map", f"{len(slides)}:a", "-c:a", "aac", "-shortest"] if sound else []
        command += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "28", "-g", "25", "-pix_fmt", "yuv420p"]
        command += ["-t", str(seconds_each * len(slides)), str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path
