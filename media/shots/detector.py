"""Detection of all shot changes of a film."""

from __future__ import annotations

from promptreel.media.shots.cuts import find_cuts
from promptreel.media.shots.dissolves import find_dissolves
from promptreel.media.shots.distances import step_distances
from promptreel.media.shots.fades import clip_to_cuts, find_blanks, in_fade
from promptreel.media.shots.features import FrameFeatures
from promptreel.media.shots.settings import ShotSettings
from promptreel.media.shots.transitions import Transition, overlaps, strongest


def detect_transitions(features: FrameFeatures, settings: ShotSettings = ShotSettings()) -> tuple[Transition, ...]:
    """Return the shot changes in order of `at_us`; empty for a single shot or fewer than two frames.

    Temporaries are bounded: a few numbers per frame, and wide arrays of `arrays.CHUNK` frames at a time.
    """
    if len(features) < 2:
        return ()
    steps = step_distances(features)
    cuts = find_cuts(features, steps, settings)
    blanks = find_blanks(features, cuts, settings)
    cuts = [c for c in cuts if not any(in_fade(c, blank) for blank in blanks)]
    fades = [clip_to_cuts(blank.fade, cuts) for blank in blanks]
    blocked = [*fades, *cuts]
    dissolves = [d for d in find_dissolves(features, blocked, settings) if not overlaps(d, blocked)]
    between = [fade for fade, blank in zip(fades, blanks, strict=True) if not blank.at_an_end]
    ends = [blank.end_boundary for blank in blanks if blank.end_boundary is not None]
    return strongest([*between, *ends, *cuts, *dissolves], settings.min_gap_us)
