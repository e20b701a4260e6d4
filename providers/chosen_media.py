"""What of a segment a service receives: a few chosen frames instead of all, and the sound or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from promptreel.providers.base import Provider, SegmentInput
from promptreel.providers.pictures import choose_frames, summarize_picture
from promptreel.schemas.media import MediaType
from promptreel.schemas.settings import ModelSettings

VERSION: Final = 1  # part of the key of an operation with chosen frames; raise it when other frames would be chosen


def frame_limit(settings: ModelSettings, media_type: MediaType) -> int | None:
    """Return the maximum number of frames of a segment; None without a limit. Only videos have one."""
    return settings.frames_per_segment if media_type == "video" else None


def sends_sound(settings: ModelSettings, media_type: MediaType) -> bool:
    """Return whether the sound of a segment, or the words spoken in it, are sent. An audio file has nothing else."""
    return settings.sound is not False or media_type != "video"


def choice_material(provider: Provider, settings: ModelSettings, media_type: MediaType) -> dict[str, Any]:
    """Return what the choice adds to an operation's key: nothing if everything is sent, as in earlier versions."""
    material: dict[str, Any] = {}
    if provider.is_called and (limit := frame_limit(settings, media_type)) is not None:
        material["chosen_frames"] = [VERSION, limit]
    if provider.is_called and not sends_sound(settings, media_type):
        material["sound"] = False
    return material


def choose_media(
    provider: Provider, settings: ModelSettings, media: SegmentInput, cuts_us: Sequence[int]
) -> SegmentInput:
    """Return the part of a segment that is sent. A model in this process measures all of it.

    Args:
        cuts_us: shot changes of the item, in ascending order.

    Raises:
        OSError: a frame cannot be read.
    """
    if not provider.is_called:
        return media
    if not sends_sound(settings, media.media_type):
        media = replace(media, audio_file=None, words=None)
    limit = frame_limit(settings, media.media_type)
    if limit is None:
        return media
    frames = media.frames
    if len(frames) > limit:
        summaries = [summarize_picture(media.folder / frame.file) for frame in frames]
        frames = choose_frames(frames, summaries, media.span, limit, cuts_us)
    return replace(media, frames=frames, has_chosen_frames=True)
