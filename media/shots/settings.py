"""Thresholds of the shot detector."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShotSettings:
    """Thresholds of the detector. Distances are 0..1; times are integer microseconds.

    Values were chosen on the TUNE half of ``benchmarks/films.py`` (``python -m benchmarks.shot_detection``), never
    on the REPORT half.
    """

    cut_distance: float = 0.18
    """Minimum strength of a cut in a bright picture: distance of the frame sets on both sides (see `distance`),
    reduced if the change is not spread over the picture (`full_spread`)."""
    cut_ratio: float = 3.5
    """Minimum ratio of a cut's strength to the usual frame-to-frame distance around it."""
    dark_level: float = 0.2
    """Mean luma below which `cut_distance` and `dissolve_distance` fall in proportion, because distances scale with
    the light. Results on TUNE are the same from 0.15 to 0.3."""
    dark_distance: float = 0.02
    """Minimum strength of a cut in any light. In the dark, grain and slow movement stay near 0.01."""
    dark_ratio: float = 8.0
    """`cut_ratio` for cuts weaker than `cut_distance`, where only the neighbourhood tells them from movement. Dark
    cuts are 15 to 60 times their neighbourhood. Results on TUNE are the same from 6 to 12."""
    full_spread: float = 0.5
    """Evenness from which a change counts in full (see `share_changed`). Changes of part of the picture, such as an
    object that appears, are below 0.3, cuts between full pictures mostly above 0.5."""
    near_us: int = 200_000
    """Time on each side in which bursts of movement are measured: whip pans take 0.2-0.5 s."""
    around_quantile: float = 0.75
    """Quantile of the distances around a step that counts as usual: flashes may fill up to a quarter of them."""
    persist_us: int = 250_000
    """Minimum duration of a change, and of blank frames at an end of a film that are a shot. Three flash frames at
    24 fps take 125 ms, a decaying flash about twice that."""
    around_us: int = 500_000
    """Time on each side in which the usual frame-to-frame distance is measured."""
    lighting_pattern: float = 0.85
    """Minimum cosine of both the luma and the chroma patterns of two frames that show one scene in other light."""
    lighting_structure: float = 0.7
    """Minimum cosine of the steps of log luma between neighbouring cells of two frames that show one scene in other
    light. On TUNE, different scenes stay below 0.4; a lamp over part of the picture gives more than 0.85."""
    dissolve_windows_us: tuple[int, ...] = (300_000, 500_000, 800_000, 1_200_000, 1_800_000, 2_600_000)
    """Window lengths, about a factor of 1.5 apart. Dissolves in edited film mostly last 0.3-2.5 s."""
    dissolve_distance: float = 0.08
    """Root-mean-square grid distance of a dissolve's ends from which it counts in full, in a bright picture. Below
    half of it, a window is not a dissolve."""
    blend_residual: float = 0.4
    """Maximum deviation of the frames in between from a linear blend, as a share of the distance of the ends. Pans
    over textured pictures give 0.5 to 1; three unrelated pictures give the root of a half."""
    side_weight: float = 0.9
    """Weight of movement outside a window, which speaks against a dissolve. A constant pan moves as far in half a
    window before plus after as inside (1), a dissolve between still shots does not move (0)."""
    shift_share: float = 0.5
    """Minimum share of the ends' difference that remains when one is shifted onto the other. Below it the camera
    moved."""
    return_us: int = 3_000_000
    """Time on each side of a dissolve that is searched for a picture that returns. Objects cross in less."""
    return_share: float = 0.2
    """Maximum distance of two frames before and after a dissolve, as a share of that of its ends, that shows one
    scene with an object passing. A still background gives 0.01 to 0.1."""
    exact_residual: float = 0.1
    """`residual` up to which a blend is too exact for a passing object, so that a picture may return: still pictures
    that dissolve there and back."""
    dissolve_score: float = 0.34
    """Minimum score of a dissolve: (1 - residual) * (1 - side_weight * side), reduced if its ends differ little or
    only in part."""
    blank_contrast: float = 0.02
    """Standard deviation of luma below which a picture is blank. 0.02 is five of 255 levels: coding noise."""
    flat_contrast: float = 0.003
    """Standard deviation of luma, 0.8 of 255 levels, below which a neutral picture is black or white even without a
    ramp. Dark shots of a mean of five levels or more mostly exceed it."""
    blank_level: float = 0.10
    """Maximum distance of a blank picture's mean luma from black or white."""
    leader_us: int = 500_000
    """Minimum length of black or white at the start or the end of a film that counts as a shot; shorter ones are margins
    of editing, and the picture that fades in after them starts the first shot. Chosen by meaning, not tuned."""
    fade_reach_us: int = 3_000_000
    """Maximum length of the ramp on each side of a blank picture."""
    min_gap_us: int = 200_000
    """A transition nearer than this to a stronger one is dropped."""

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
                raise ValueError(f"ShotSettings.{name} is {value!r}; it must be greater than 0 and at most 1")
        for name in ("cut_ratio", "dark_ratio"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"ShotSettings.{name} is {getattr(self, name)!r}; it must be at least 1")
        for name in ("persist_us", "leader_us", "around_us", "near_us", "fade_reach_us", "return_us", "min_gap_us"):
            value = getattr(self, name)
            if not isinstance(value, int) or value <= 0:
                raise ValueError(
                    f"ShotSettings.{name} is {value!r}; it must be a positive integer number of "
                    "microseconds (250_000 is a quarter of a second)"
                )
        windows = self.dissolve_windows_us
        if (
            not windows
            or any(not isinstance(w, int) or w <= 0 for w in windows)
            or list(windows) != sorted(set(windows))
        ):
            raise ValueError(
                f"ShotSettings.dissolve_windows_us is {windows!r}; it must be an increasing tuple of "
                "positive integer microseconds"
            )
