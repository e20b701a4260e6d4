"""Semantic indexing: the texts of a result to embed, and the embedding models that run on this machine.

A text is one instance of a leaf field ("people[1].name"), the `metadata_text` of all indexed fields, or the transcript.
Vectors of different models are never compared; each is stored with the name of its model.
"""

from __future__ import annotations

import base64
import importlib.util
import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from promptreel.providers.base import ModelAnswer, ModelRequest, Provider
from promptreel.providers.clip import ClipEmbedder
from promptreel.providers.local_models import COMPUTE, shared_model
from promptreel.providers.weights import (
    Weights,
    as_path,
    file_identity,
    is_installed,
    models_folder,
    package_version,
    path_hint,
)
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.field_paths import LeafField, render_text
from promptreel.schemas.ids import digest

VERSION: Final = 1
# Texts that are embedded and stored together: the limit of one call to the Gemini API.
BATCH: Final = 100
MAX_TEXT_CHARS: Final = 8000  # about 2,000 tokens, the input limit of the Gemini embedding models

METADATA_TEXT: Final = "metadata_text"
TRANSCRIPTION: Final = "transcription"

_SENTENCE_TRANSFORMERS: Final = "sentence-transformers:"


@dataclass(frozen=True, slots=True)
class IndexedText:
    """One text to embed.

    Attributes:
        field: canonical path of its leaf, or `metadata_text` or `transcription`.
        instance: the path with the indexes of list elements, e.g. `people[1].name`.
    """

    field: str
    instance: str
    text: str


def texts_of(
    metadata: Mapping[str, Any],
    metadata_text: str,
    transcript: str,
    leaves: Sequence[LeafField],
    disabled: Sequence[str] = (),
) -> tuple[IndexedText, ...]:
    """Return the texts of one result: its fields in schema order, `metadata_text`, and the transcript.

    Blank texts are skipped. Numbers, booleans and the paths in `disabled` are left to filters. `metadata_text` is indexed
    without the disabled fields, although results show it in full.
    """
    disabled_paths = {path.removesuffix("[]") for path in disabled}
    enabled = tuple(leaf for leaf in leaves if leaf.path not in disabled_paths)
    if len(enabled) < len(leaves):
        metadata_text = render_text(metadata, enabled) if enabled else ""
    texts = []
    for leaf in enabled:
        if leaf.type == "string":
            for instance, value in instances_of(metadata, leaf.path):
                if isinstance(value, str):
                    texts.append(IndexedText(leaf.path, instance, value))
    texts.append(IndexedText(METADATA_TEXT, METADATA_TEXT, metadata_text))
    texts.append(IndexedText(TRANSCRIPTION, TRANSCRIPTION, transcript))
    return tuple(text for text in texts if text.text.strip())


def instances_of(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield (instance path, value) for every value at a canonical path.

    >>> list(instances_of({"people": [{"name": "Ada"}, {"name": "Bo"}]}, "people[].name"))
    [('people[0].name', 'Ada'), ('people[1].name', 'Bo')]
    """
    yield from _instances(value, path.split("."), "")


def _instances(value: Any, keys: Sequence[str], path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for number, part in enumerate(value):
            yield from _instances(part, keys, f"{path}[{number}]")
        return
    if not keys:
        if value is not None:
            yield path, value
        return
    key = keys[0].removesuffix("[]")
    if isinstance(value, Mapping) and key in value:
        yield from _instances(value[key], keys[1:], f"{path}.{key}" if path else key)


def text_batches(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the distinct texts, cut to `MAX_TEXT_CHARS`, in batches of `BATCH`."""
    distinct = list(dict.fromkeys(text[:MAX_TEXT_CHARS] for text in texts))
    return [tuple(distinct[first : first + BATCH]) for first in range(0, len(distinct), BATCH)]


def embedding_key(provider: Provider, texts: Sequence[str]) -> str:
    """Return the operation key of one batch."""
    return digest(
        {"operation": "text_embedding", "version": VERSION, "texts": list(texts), "provider": provider.fingerprint()}
    )


def embedding_request(texts: Sequence[str], *, is_query: bool = False) -> ModelRequest:
    """Return the request for one batch.

    Args:
        is_query: the texts are search queries, not documents.
    """
    return ModelRequest(
        purpose="text_embedding", instruction="", text="", json_schema={}, texts=tuple(texts), is_query=is_query
    )


def pack_vectors(vectors: NDArray[np.float32]) -> dict[str, Any]:
    """Return float32[n, d] as JSON values, without loss; see `unpack_vectors`."""
    return {"dimension": int(vectors.shape[1]), "float32": base64.b64encode(vectors.astype("<f4").tobytes()).decode()}


def unpack_vectors(values: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return the float32[n, d] that `pack_vectors` packed."""
    flat = np.frombuffer(base64.b64decode(values["float32"]), "<f4")
    return flat.reshape(-1, values["dimension"]).astype(np.float32)


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32[n, d] with rows scaled to unit length; rows of zeros (no known word in the text) stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return scaled


class LocalTextEmbedder(Provider):
    """A text embedding model in this process."""

    is_called = False

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, d] with rows of unit length; zeros for a text without any word known to the model.

        Raises:
            ModelError: the model cannot be loaded.
        """

    def fingerprint(self) -> Mapping[str, Any]:
        return {"provider": "text", "version": VERSION, "model": self.name}

    async def call(self, request: ModelRequest, prepared: Any) -> ModelAnswer:
        import asyncio

        return ModelAnswer(text="", vectors=await asyncio.to_thread(self.embed, request.texts))


class WordLlamaEmbedder(LocalTextEmbedder):
    """WordLlama: averaged static token vectors of 256 dimensions, weights in its wheel, numpy only."""

    def __init__(self) -> None:
        self.name = f"wordllama:{package_version('wordllama') or 'missing'}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        model = shared_model(self.name, _load_wordllama)
        with COMPUTE:
            return unit_rows(np.asarray(model.embed(list(texts), norm=False), np.float32))


class SentenceTransformersEmbedder(LocalTextEmbedder):
    """A sentence-transformers model by name or folder, with weights on this machine."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.name = f"{_SENTENCE_TRANSFORMERS}{_folder_identity(model) or model}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        model = shared_model(self.name, self._load)
        with COMPUTE:
            return np.asarray(model.encode(list(texts), normalize_embeddings=True), np.float32)

    def _load(self) -> Any:
        found = find_text_weights(f"{_SENTENCE_TRANSFORMERS}{self._model}")
        if found.path is None:
            raise ModelError("weights_missing", f"{found.reason}; {found.fix}", retryable=True)
        from sentence_transformers import SentenceTransformer

        # By path: the library would prefer a folder of the working directory to a public name.
        return SentenceTransformer(str(found.path), cache_folder=models_folder(), local_files_only=True, device="cpu")


class ClipTextEmbedder(LocalTextEmbedder):
    """The text tower of an open-clip model: texts in the space of its image embeddings."""

    def __init__(self, model: str) -> None:
        self._clip = ClipEmbedder(model)
        self.name = self._clip.name

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._clip.embed_texts(texts)


def find_text_weights(model: str) -> Weights:
    """Find the weights of a local text embedding model; never downloads."""
    if model == "wordllama":
        folder = _package_folder("wordllama")
        if folder is None or not any((folder / "weights").glob("*.safetensors")):
            return Weights(
                model,
                None,
                reason="wordllama is missing or its installation is incomplete",
                fix="pip install wordllama",
            )
        return Weights(model, folder / "weights", f"wordllama {package_version('wordllama')}")
    name = model.removeprefix(_SENTENCE_TRANSFORMERS)
    if not is_installed("sentence_transformers"):
        fix = "pip install 'promptreel[sentence-transformers]'"
        return Weights(model, None, reason="sentence-transformers is not installed", fix=fix)
    if (folder := as_path(name)) is not None and folder.is_dir():
        return Weights(model, folder, "path")
    from huggingface_hub import try_to_load_from_cache

    repository = name if "/" in name else f"sentence-transformers/{name}"
    found = try_to_load_from_cache(repository, "modules.json", cache_dir=models_folder())
    if isinstance(found, str):
        return Weights(model, Path(found).parent, "models folder")
    reason = f"the weights of {name!r} are not on this machine"
    return Weights(model, None, reason=reason, fix=f"run: promptreel models pull {model}{path_hint(name)}")


def _folder_identity(model: str) -> str:
    """Return a folder's name and the hash of its weights; empty for a public name."""
    folder = as_path(model)
    if folder is None or not folder.is_dir():
        return ""
    files = sorted([*folder.rglob("*.safetensors"), *folder.rglob("pytorch_model.bin")])
    return "-".join([folder.name, *(file_identity(file) for file in files[:1])])


def pull_weights(model: str) -> Weights:
    """Download a sentence-transformers model, for later runs without a network.

    Raises:
        SettingsError: the package is missing.
        ModelError: the model hub cannot be reached or does not have the model.
    """
    found = find_text_weights(model)
    if found.available:
        return found
    if not is_installed("sentence_transformers"):
        raise SettingsError(f"{found.reason}; {found.fix}")
    from huggingface_hub import snapshot_download

    name = model.removeprefix(_SENTENCE_TRANSFORMERS)
    repository = name if "/" in name else f"sentence-transformers/{name}"
    try:
        snapshot_download(repository, cache_dir=models_folder())
    except Exception as error:  # the hub's client raises errors of several libraries
        raise ModelError("weights_missing", f"cannot download {model} ({error})") from error
    return find_text_weights(model)


def _package_folder(package: str) -> Path | None:
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent if found is not None and found.origin is not None else None


def _load_wordllama() -> Any:
    found = find_text_weights("wordllama")
    if found.path is None:
        raise ModelError("weights_missing", f"{found.reason}; {found.fix}", retryable=True)
    from wordllama import WordLlama

    logging.getLogger("wordllama").setLevel(logging.WARNING)
    return WordLlama.load(cache_dir=found.path.parent, disable_download=True)
