"""Shot boundaries from low-resolution frames: hard cuts, dissolves and fades, with numpy alone.

A decode pass streams small RGB frames into a :class:`FeatureBuilder`; :func:`detect_transitions` then reads
the compact features. Three questions are asked, each in time and never in frame counts, because frames may
be irregular (variable frame rate) or a subset (a decoder that skips non-reference frames):

* **fade**: does the picture go blank (black or white) and come back?
* **cut**: does one frame step stand out from the steps around it, *and* do the frames of the quarter second
  before it all differ from those of the quarter second after it? A camera flash fails the second half.
* **dissolve**: over some window, is every frame in between a linear blend of the two ends, while the picture
  outside the window moves much less than inside it? The first half is what camera motion fails on textured
  pictures, the second what slow pans over smooth pictures fail.

The blend test rests on the definition of a dissolve, ``frame = (1 - a) * old + a * new`` with `a` rising
from 0 to 1; the persistence test on frame *sets* instead of frame pairs is the usual defence against flashes.
"""

from promptreel.media.shots.builder import FeatureBuilder
from promptreel.media.shots.detector import detect_transitions
from promptreel.media.shots.features import FRAME_HEIGHT, FRAME_WIDTH, FrameFeatures
from promptreel.media.shots.settings import ShotSettings
from promptreel.media.shots.transitions import Transition

__all__ = [
    "FRAME_HEIGHT",
    "FRAME_WIDTH",
    "FeatureBuilder",
    "FrameFeatures",
    "ShotSettings",
    "Transition",
    "detect_transitions",
]
