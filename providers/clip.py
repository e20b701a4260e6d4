"""Image embeddings, and text embeddings in the same space, with open-clip. Weights by public name or from a local file.

A model is written `ARCHITECTURE:WEIGHTS` ("ViT-B-32:datacomp_xl_s13b_b90k", "ViT-B-32:/models/mine.safetensors") or
`local-dir:FOLDER` (open-clip's own form of a folder with its configuration).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from promptreel.providers.local_models import COMPUTE, cores, shared_model
from promptreel.providers.weights import (
    Weights,
    file_identity,
    is_installed,
    models_folder,
    package_version,
)
from promptreel.schemas.errors import ModelError, SettingsError

BATCH: Final = 16  # pictures or texts computed together: more is no faster on a CPU, and memory grows

_LOCAL_FOLDER: Final = "local-dir:"
# What open-clip calls the weights in a folder, in the order in which it prefers them.
_FILES: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
# The default model and where the hub keeps it: to look for its weights open-clip, slow to import, need not be asked.
_DEFAULT: Final = "ViT-B-32:datacomp_xl_s13b_b90k"
_DEFAULT_HUB: Final = "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K/"
_INSTALL: Final = "pip install 'promptreel[clip]'"


class ClipEmbedder:
    """One open-clip model, described by its name; the model itself is shared by the process."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._weights = find_weights(model)

    @property
    def name(self) -> str:
        """The model's name beside every vector; weights without a public name are named by their content."""
        return f"clip:{_identity(self._weights)}"

    def fingerprint(self) -> Mapping[str, Any]:
        """Whatever changes an embedding: part of its key."""
        return {"provider": "clip", "version": 1, "model": self.name}

    def embed_images(self, files: Sequence[Path]) -> NDArray[np.float32]:
        """float32[n, d] of unit length, one row for each JPEG.

        Raises:
            ModelError: the weights are gone or cannot be loaded, or a picture cannot be read.
        """
        import torch

        model, transform, _, _ = self._loaded()
        with COMPUTE, torch.inference_mode():
            rows = []
            for first in range(0, len(files), BATCH):
                pictures = torch.stack([transform(_picture(path)) for path in files[first : first + BATCH]])
                rows.append(model.encode_image(pictures, normalize=True).float().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self.dimension), np.float32)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n, d] of unit length in the images' space, one row for each text; beyond the model's 77 tokens a text
        is cut.

        Raises:
            ModelError: the weights are gone or cannot be loaded.
        """
        import torch

        model, _, tokenizer, _ = self._loaded()
        with COMPUTE, torch.inference_mode():
            rows = []
            for first in range(0, len(texts), BATCH):
                tokens = tokenizer(list(texts[first : first + BATCH]))
                rows.append(model.encode_text(tokens, normalize=True).float().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self.dimension), np.float32)

    @property
    def dimension(self) -> int:
        """Numbers in each vector; loads the model."""
        *_, dimension = self._loaded()
        return int(dimension)

    def _loaded(self) -> tuple[Any, Any, Any, int]:
        weights = self._weights
        if weights.path is None:
            raise ModelError("weights_missing", f"{weights.reason}; {weights.fix}", retryable=True)
        return shared_model((self.name, str(weights.path)), lambda: _load(self.model, weights))


def find_weights(model: str) -> Weights:
    """Looks for a model's weights; never downloads. (To know public names other than the default open-clip is imported: some
    seconds.)

    Random weights are never used: open-clip would take them, with a mere warning, where a name has none.
    """
    missing = [
        name for name, package in (("torch", "torch"), ("open-clip-torch", "open_clip")) if not is_installed(package)
    ]
    if missing:
        return Weights(model, None, reason=f"{' and '.join(missing)} not installed", fix=_INSTALL)
    if model.startswith(_LOCAL_FOLDER):
        folder = Path(model.removeprefix(_LOCAL_FOLDER)).expanduser()
        if (folder / "open_clip_config.json").is_file() and _weights_in(folder) is not None:
            return Weights(model, folder, "path")
        reason = f"{folder} lacks open_clip_config.json or its weights"
        return Weights(model, None, reason=reason, fix="name a folder that open-clip has saved, or a public model")
    architecture, separator, weights = model.partition(":")
    if not separator or not architecture or not weights:
        reason = f"{model!r} names no weights"
        return Weights(
            model, None, reason=reason, fix="write ARCHITECTURE:WEIGHTS, e.g. ViT-B-32:datacomp_xl_s13b_b90k"
        )
    path = Path(weights).expanduser()
    if path.is_file():
        return Weights(model, path, "path")
    if path.is_absolute() or "/" in weights or weights.startswith("~"):
        return Weights(model, None, reason=f"there is no file {path}", fix="check the path")
    if model == _DEFAULT:
        return _cached(model, {"hf_hub": _DEFAULT_HUB})
    return _find_public(model, architecture, weights)


def pull_weights(model: str) -> Weights:
    """Fetches the weights of a public model, for later runs without a network.

    Raises:
        SettingsError: there is no such model, or a package is missing.
        ModelError: the model hub cannot be reached.
    """
    found = find_weights(model)
    if found.available or found.fix == _INSTALL or model.startswith(_LOCAL_FOLDER):
        if not found.available:
            raise SettingsError(f"{found.reason}; {found.fix}")
        return found
    open_clip = import_open_clip()
    architecture, _, tag = model.partition(":")
    config = open_clip.get_pretrained_cfg(architecture, tag)
    if not config:
        raise SettingsError(f"{found.reason}; {found.fix}")
    try:
        open_clip.download_pretrained(config, cache_dir=models_folder())
    except Exception as error:  # the hub's client raises errors of several libraries
        raise ModelError("weights_missing", f"clip model {model!r}: cannot be fetched ({error})") from error
    return find_weights(model)


def import_open_clip() -> Any:
    """Imports open-clip, also beside a torchvision that was built for another torch.

    open-clip uses torchvision's Python transforms alone. A torchvision whose compiled operators do not load (a build for
    CUDA beside a torch for CPUs) still declares fakes for two of them at import, and fails because they are not defined:
    defining their schemas is enough. Matching builds are left as they are.

    Raises:
        ModelError: saying what to install.
    """
    import torch

    try:
        try:
            import open_clip
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            _define_missing_operators(torch)
            import open_clip
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        versions = ", ".join(f"{name} {package_version(name) or 'missing'}" for name in ("torch", "torchvision"))
        message = (
            f"open-clip cannot be imported beside {versions} ({type(error).__name__}: {error}); install a torchvision that "
            "was built for this torch"
        )
        raise ModelError("weights_missing", message) from error
    return open_clip


# Kept for the life of the process: a library that is collected takes its operators with it.
_operators: list[Any] = []


def _define_missing_operators(torch: Any) -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".", 1)[0] in ("torchvision", "open_clip")]:
        del sys.modules[name]  # what a failed import left behind
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # defined already
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _operators.append(library)


def _find_public(model: str, architecture: str, tag: str) -> Weights:
    config = _public_config(architecture, tag)
    if config is None:
        reason = f"open-clip knows no weights {tag!r} for {architecture!r}"
        fix = "choose one of its public tags (python -c 'import open_clip; print(open_clip.list_pretrained())'), or a file"
        return Weights(model, None, reason=reason, fix=fix)
    text = import_open_clip().get_model_config(architecture)["text_cfg"]
    if text.get("hf_tokenizer_name") or text.get("hf_model_name"):
        reason = f"{architecture!r} needs a tokenizer that open-clip does not carry"
        fix = (
            "choose an architecture without one (ViT-B-32), or save it with its tokenizer and name it local-dir:FOLDER"
        )
        return Weights(model, None, reason=reason, fix=fix)
    return _cached(model, config)


def _cached(model: str, config: Mapping[str, Any]) -> Weights:
    """The weights of open-clip's entry `config`, where they were pulled before."""
    path = _cached_file(config)
    if path is None:
        fix = f"run: promptreel models pull clip:{model}"
        return Weights(model, None, reason=f"the weights of clip model {model!r} are not on this machine", fix=fix)
    return Weights(model, path, "models folder")


def _public_config(architecture: str, tag: str) -> Mapping[str, Any] | None:
    """open-clip's entry for public weights; None where it has none."""
    try:
        open_clip = import_open_clip()
    except ModelError:
        return None
    return open_clip.get_pretrained_cfg(architecture, tag) or None


def _cached_file(config: Mapping[str, Any]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    if config.get("hf_hub"):
        repository, _, name = str(config["hf_hub"]).rpartition("/")
        safe = [f"{name.rpartition('.')[0]}.safetensors"] if name.endswith((".bin", ".pth")) else []
        for candidate in [*safe, name] if name else _FILES:
            found = try_to_load_from_cache(repository, candidate, cache_dir=models_folder())
            if isinstance(found, str):
                return Path(found)
    if config.get("url"):
        folder = Path(models_folder() or "~/.cache/clip").expanduser()
        path = folder / str(config["url"]).rsplit("/", 1)[-1]
        return path if path.is_file() else None
    return None


def _weights_in(folder: Path) -> Path | None:
    return next((folder / name for name in _FILES if (folder / name).is_file()), None)


def _identity(weights: Weights) -> str:
    path = weights.path
    if weights.source != "path" or path is None:
        return weights.model
    architecture = "local-dir" if path.is_dir() else weights.model.partition(":")[0]
    file = _weights_in(path) if path.is_dir() else path
    assert file is not None
    return f"{architecture}:{file.stem}-{file_identity(file)}"


def _load(model: str, weights: Weights) -> tuple[Any, Any, Any, int]:
    """(model, image transform, tokenizer, dimension), the model in evaluation mode on the CPU."""
    import torch

    open_clip = import_open_clip()
    torch.set_num_threads(cores())
    name, _, tag = model.partition(":")
    options: dict[str, Any] = {"weights_only": True}
    if model.startswith(_LOCAL_FOLDER):
        name = f"{_LOCAL_FOLDER}{weights.path}"
    else:
        options |= {"pretrained": str(weights.path), **_training(open_clip.get_pretrained_cfg(name, tag) or {})}
    try:
        loaded, transform = open_clip.create_model_from_pretrained(name, **options)
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # torch, safetensors and open-clip each raise their own
        message = f"clip weights {weights.path}: cannot be loaded as {name} ({type(error).__name__}: {error})"
        raise ModelError("weights_missing", message) from error
    return loaded.eval(), transform, tokenizer, open_clip.get_model_config(name)["embed_dim"]


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    """How public weights want their pictures and their arithmetic: open-clip knows it by the tag, not by the file."""
    if not config:
        return {}
    return {
        "image_mean": config.get("mean"),
        "image_std": config.get("std"),
        "image_interpolation": config.get("interpolation"),
        "image_resize_mode": config.get("resize_mode"),
        "force_quick_gelu": bool(config.get("quick_gelu")),
    }


def _picture(path: Path) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft("RGB", (512, 512))  # a JPEG is decoded at a fraction of its size where that is enough
            return image.convert("RGB")
    except OSError as error:
        raise ModelError("embedding_failed", f"{path}: cannot be read ({error})") from error
