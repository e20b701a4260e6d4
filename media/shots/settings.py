"""Thresholds of the shot detector."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShotSettings:
    """Thresholds of the detector. Distances are 0..1; times are integer microseconds.

    Unless a field says otherwise its value was chosen on the TUNE half of ``benchmarks/films.py``
    (``python -m benchmarks.shot_detection``), never on the REPORT half.
    """

    cut_distance: float = 0.18
    """Least strength of a cut: distance of the frame sets on both sides (see `distance`), less where it is
    not `full_spread`."""
    cut_ratio: float = 3.5
    """How many times a cut's strength must exceed the usual frame-to-frame distance around it."""
    dark_level: float = 0.2
    """Mean luma below which the least strength of a cut falls in proportion, because distances scale with the light."""
    dark_distance: float = 0.02
    """Least strength of a cut in any light. Coding noise and slow movement in the dark stay below 0.02."""
    dark_ratio: float = 8.0
    """`cut_ratio` for cuts weaker than `cut_distance`: only the neighbourhood tells them from movement."""
    full_spread: float = 0.5
    """Evenness from which a change counts in full (see `share_changed`). Changes of part of the picture,
    such as an object that appears, lie below 0.3, cuts between full pictures mostly above 0.5."""
    near_us: int = 200_000
    """Time on each side over which a burst of movement is looked for: whip pans take 0.2-0.5 s."""
    around_quantile: float = 0.75
    """Quantile of the distances around that is called usual: flashes may fill up to a quarter of the
    steps."""
    persist_us: int = 250_000
    """How long a change must last. Three flash frames at 24 fps take 125 ms; a decaying flash about twice
    that."""
    around_us: int = 500_000
    """Time on each side over which the usual frame-to-frame distance is measured."""
    lighting_pattern: float = 0.85
    """Two frames whose patterns of light and of colour both have a cosine above this show one scene in other
    light."""
    lighting_structure: float = 0.7
    """Two frames whose steps of log luma between neighbouring cells have a cosine above this show one scene in
    other light. Different scenes stay below 0.5, lamps over part of the picture above 0.85."""
    dissolve_windows_us: tuple[int, ...] = (300_000, 500_000, 800_000, 1_200_000, 1_800_000, 2_600_000)
    """Window lengths tried, near a factor of 1.5 apart; dissolves in edited film mostly last 0.3-2.5 s."""
    dissolve_distance: float = 0.08
    """Root-mean-square grid distance of a dissolve's two ends from which it counts in full; under half of it
    nothing is one."""
    blend_residual: float = 0.4
    """Most that the frames in between may deviate from a linear blend, as a share of the distance of the
    ends. Pans over textured pictures give 0.5 to 1, the root of a half being what three unrelated pictures
    give."""
    side_weight: float = 0.9
    """How much movement outside a window speaks against a dissolve. A constant pan moves as far in half a
    window before and after, summed, as inside (1), a dissolve between still shots not at all (0)."""
    shift_share: float = 0.5
    """Least share of the ends' difference that must remain when one is shifted onto the other: below it the
    camera moved."""
    return_us: int = 3_000_000
    """Time on each side of a dissolve that is searched for a return of the picture on its other side."""
    return_share: float = 0.2
    """A dissolve whose old picture returns after it, or whose new picture was there before it, as near as this
    share of the distance of its ends, is an object that passes. A still background gives 0.01 to 0.1."""
    exact_residual: float = 0.1
    """`residual` below which a blend is so exact that a return does not count: still pictures that dissolve there
    and back."""
    dissolve_score: float = 0.34
    """Least score of a dissolve: (1 - residual) * (1 - side_weight * side), less where its ends differ
    little or in part only."""
    blank_contrast: float = 0.02
    """Standard deviation of luma below which a picture is blank. 0.02 is five of 255 levels: coding noise."""
    flat_contrast: float = 0.003
    """Standard deviation of luma that a blank stretch without a ramp must reach: one of 255 levels. A dark shot
    shows more."""
    blank_level: float = 0.10
    """A blank picture ends a fade when its mean luma is within this of black or of white."""
    fade_reach_us: int = 3_000_000
    """Longest ramp followed on each side of a blank picture."""
    min_gap_us: int = 200_000
    """Transitions nearer than this to a stronger one are dropped."""

    def __post_init__(self) -> None:
        for name in (
            "cut_distance",
            "dissolve_distance",
            "blend_residual",
            "side_weight",
            "shift_share",
            "dissolve_score",
            "blank_contrast",
            "blank_level",
            "lighting_pattern",
            "lighting_structure",
            "return_share",
            "exact_residual",
            "dark_level",
            "dark_distance",
            "flat_contrast",
            "full_spread",
            "around_quantile",
        ):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ValueError(f"ShotSettings.{name} is {value!r}: it must be above 0 and at most 1")
        for name in ("cut_ratio", "dark_ratio"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"ShotSettings.{name} is {getattr(self, name)!r}: it must be at least 1")
        for name in ("persist_us", "around_us", "near_us", "fade_reach_us", "return_us", "min_gap_us"):
            value = getattr(self, name)
            if not isinstance(value, int) or value <= 0:
                raise ValueError(
                    f"ShotSettings.{name} is {value!r}: it must be a whole number of "
                    "microseconds above 0 (250_000 is a quarter of a second)"
                )
        windows = self.dissolve_windows_us
        if (
            not windows
            or any(not isinstance(w, int) or w <= 0 for w in windows)
            or list(windows) != sorted(set(windows))
        ):
            raise ValueError(
                f"ShotSettings.dissolve_windows_us is {windows!r}: it must be a rising tuple of "
                "whole microseconds above 0"
            )
