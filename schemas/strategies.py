"""Segmentation strategies, shared by the pipeline, the service, the SDK and the CLI."""

from __future__ import annotations

from typing import Final, Literal, get_args

VideoStrategy = Literal["smart", "fixed", "content_aware"]
AudioStrategy = Literal["fixed", "content_aware"]
ImageStrategy = Literal["image"]
Strategy = VideoStrategy | AudioStrategy | ImageStrategy

VIDEO_STRATEGIES: Final[tuple[VideoStrategy, ...]] = get_args(VideoStrategy)
AUDIO_STRATEGIES: Final[tuple[AudioStrategy, ...]] = get_args(AudioStrategy)

DEFAULT_VIDEO_STRATEGY: Final[VideoStrategy] = "smart"
DEFAULT_AUDIO_STRATEGY: Final[AudioStrategy] = "content_aware"
IMAGE_STRATEGY: Final[ImageStrategy] = "image"

# Window length of the strategy "fixed", in seconds.
MIN_WINDOW_S: Final = 1
MAX_WINDOW_S: Final = 300
# Distance between the starts of fixed windows, in seconds.
MIN_HOP_S: Final = 1
MAX_HOP_S: Final = 3600
# Length of the part of an item to segment, in seconds.
MIN_RANGE_S: Final = 0.5
# Length of the user's words for what one segment is.
MAX_DEFINITION_CHARS: Final = 2000
