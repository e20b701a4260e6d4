"""The media formats that promptreel reads: ffmpeg's demuxer of each, and the file extensions searched for in folders."""

from __future__ import annotations

from typing import Final

# Demuxer names, then extensions. Only formats that hold media themselves: those that name other files (hls, dash, concat,
# sdp, image2 patterns, playlists) could make the decoder read, or fetch, something else under a media file's name.
_FORMATS: Final = (
    ("mov,mp4,m4a,3gp,3g2,mj2", "mp4 m4v mov qt m4a m4b 3gp 3g2 mj2"),
    ("matroska,webm", "mkv mka webm weba"),
    ("avi", "avi"),
    ("mpegts", "ts mts m2ts"),
    ("mpeg", "mpg mpeg ps vob"),
    ("mpegvideo", "m1v m2v"),
    ("flv", "flv"),
    ("asf", "asf wmv wma"),
    ("mxf", "mxf"),
    ("ogg", "ogg oga ogv opus spx"),
    ("wav", "wav"),
    ("w64", "w64"),
    ("mp3", "mp3 mp2"),
    ("flac", "flac"),
    ("aac", "aac adts"),
    ("ac3", "ac3"),
    ("eac3", "eac3 ec3"),
    ("dts", "dts"),
    ("aiff", "aiff aif"),
    ("caf", "caf"),
    ("amr", "amr"),
    ("wv", "wv"),
    ("h264", "h264 264"),
    ("hevc", "hevc h265 265"),
    ("m4v", ""),
    ("mjpeg", ""),
    ("gif", "gif"),
    ("apng", "apng"),
    ("jpeg_pipe", "jpg jpeg"),
    ("png_pipe", "png"),
    ("webp_pipe", "webp"),
    ("webp_anim", ""),
    ("bmp_pipe", "bmp"),
    ("tiff_pipe", "tif tiff"),
    ("j2k_pipe", "jp2 j2k"),
    ("jpegxl_pipe", ""),
    ("", "heic heif avif"),  # read by Pillow, see `promptreel.media.stills`
)

DEMUXERS: Final = tuple(name for names, _ in _FORMATS if names for name in names.split(","))
EXTENSIONS: Final = frozenset(extension for _, extensions in _FORMATS for extension in extensions.split())
