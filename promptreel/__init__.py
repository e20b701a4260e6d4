"""promptreel: one prompt over many videos, audio files and images, to tables."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("promptreel")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0.0.0"
