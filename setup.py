"""Packaging; also Beam's `--setup_file`, with which workers of another runner install the same code."""

from setuptools import setup

PACKAGES = [
    "schemas",
    "media",
    "providers",
    "tables",
    "transforms",
    "pipelines",
    "promptreel",
    "promptreel.cli",
    "promptreel.prompts",
]

setup(
    name="promptreel",
    version="0.1.0",
    description="One prompt over many videos, audio files and images, to open tables.",
    python_requires=">=3.11,<3.14",
    packages=PACKAGES,
    package_data={"promptreel.prompts": ["*.json"]},
    entry_points={"console_scripts": ["promptreel = promptreel.cli.main:main"]},
    install_requires=[
        "apache-beam>=2.77,<3",
        "av>=15,<19",
        "click>=8.1,<9",
        "duckdb>=2.0,<3",
        "ffmpeg-python>=0.2,<0.3",
        "fsspec>=2025.3",
        "google-genai>=3.4,<4",
        "imageio-ffmpeg>=0.6,<1",
        "jsonschema>=4.23,<5",
        "numpy>=2.0,<3",
        "pyarrow>=20,<26",
        "rich>=13.9,<16",
    ],
    extras_require={
        "speech": ["faster-whisper>=1.2,<2"],
        "gcp": ["apache-beam[gcp]>=2.77,<3", "gcsfs>=2025.3"],
        "s3": ["s3fs>=2025.3"],
        "bench": ["scenedetect>=0.7,<0.8"],
        "dev": [
            "hypothesis>=6.150,<7",
            "mypy>=2.0,<3",
            "pytest>=9,<10",
            "ruff>=0.17,<0.18",
            "starlette>=0.45",
            "types-jsonschema",
            "uvicorn>=0.34",
        ],
    },
)
