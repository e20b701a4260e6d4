"""Shot boundaries from low-resolution frames: hard cuts, dissolves and fades, with numpy alone.

A decode pass streams small RGB frames into a :class:`FeatureBuilder`; :func:`detect_transitions` then reads
the compact features. Every test measures time, not frames, because frames may be irregular (variable frame
rate) or a subset (a decoder that skips non-reference frames):

* **fade**: the picture goes blank (black or white) and comes back. At the start or the end of a film, blank
  frames that last long enough are a shot, and the change between them and the content is reported.
* **cut**: one frame step stands out from the steps around it, *and* all frames of the quarter second before
  it differ from those of the quarter second after it. A camera flash fails the second test. Distances scale
  with the light, so in the dark a smaller step is enough if it stands out more.
* **dissolve**: in a window, every frame in between is a linear blend of the two ends, and the picture moves
  much less outside the window than inside. Camera motion fails the first test on textured pictures and the
  second on smooth ones. An object that passes is rejected because the background returns.

A cut or dissolve between two frames that show one scene in other light is rejected.

The blend test follows from the definition of a dissolve, ``frame = (1 - a) * old + a * new`` with `a` rising
from 0 to 1. Comparing *sets* of frames instead of pairs is the usual defence against flashes.
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
