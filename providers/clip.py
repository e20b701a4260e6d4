"""Image embeddings, and text embeddings in the same space, with open-clip.

A model is written `ARCHITECTURE:WEIGHTS`, where WEIGHTS is a public name or a local file
("ViT-B-32:datacomp_xl_s13b_b90k", "ViT-B-32:/models/mine.safetensors"), or `local-dir:FOLDER` (open-clip's form of a
folder with a configuration).
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
    as_path,
    file_identity,
    is_installed,
    models_folder,
    package_version,
    path_hint,
)
from promptreel.schemas.errors import ModelError, SettingsError

BATCH: Final = 16  # pictures or texts computed together; more is no faster on a CPU and needs more memory

_LOCAL_FOLDER: Final = "local-dir:"
# Names of the weights in a folder, in the order in which open-clip prefers them.
_FILES: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
# The default model and its repository at the hub, so that finding its weights does not import open-clip, which is slow.
_DEFAULT: Final = "ViT-B-32:datacomp_xl_s13b_b90k"
_DEFAULT_HUB: Final = "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K/"
_INSTALL: Final = "pip install 'promptreel[clip]'"


class ClipEmbedder:
    """One open-clip model by name; the loaded model is shared by the process."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._weights = find_weights(model)

    @property
    def name(self) -> str:
        """The model's name as stored with every vector; weights without a public name are named by their content."""
        return f"clip:{_weights_identity(self._weights)}"

    def fingerprint(self) -> Mapping[str, Any]:
        """Return everything that can change an embedding: part of its key."""
        return {"provider": "clip", "version": 1, "model": self.name}

    def embed_images(self, files: Sequence[Path]) -> NDArray[np.float32]:
        """Return float32[n, d] with rows of unit length, one for each JPEG.

        Raises:
            ModelError: the weights are missing or cannot be loaded, or a picture cannot be read.
        """
        import torch

        model, transform, _, _ = self._loaded()
        with COMPUTE, torch.inference_mode():
            rows = []
            for first in range(0, len(files), BATCH):
                pictures = torch.stack([transform(_load_picture(path)) for path in files[first : first + BATCH]])
                rows.append(model.encode_image(pictures, normalize=True).float().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self.dimension), np.float32)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, d] with rows of unit length in the space of the images, one for each text.

        Texts are cut to the model's limit of 77 tokens.

        Raises:
            ModelError: the weights are missing or cannot be loaded.
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
        """Dimension of the vectors; loads the model."""
        *_, dimension = self._loaded()
        return int(dimension)

    def _loaded(self) -> tuple[Any, Any, Any, int]:
        weights = self._weights
        if weights.path is None:
            raise ModelError("weights_missing", f"{weights.reason}; {weights.fix}", retryable=True)
        return shared_model((self.name, str(weights.path)), lambda: _load(self.model, weights))


def find_weights(model: str) -> Weights:
    """Find a model's weights; never downloads.

    For public names other than the default this imports open-clip, which takes seconds. A name without weights is
    unavailable; open-clip itself would only warn and use random weights.
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
        reason = f"{folder} has no open_clip_config.json or no weights"
        return Weights(model, None, reason=reason, fix="use a folder saved by open-clip, or a public model")
    architecture, separator, weights = model.partition(":")
    if not separator or not architecture or not weights:
        reason = f"{model!r} does not name its weights"
        return Weights(
            model, None, reason=reason, fix="write ARCHITECTURE:WEIGHTS, e.g. ViT-B-32:datacomp_xl_s13b_b90k"
        )
    path = as_path(weights)
    if path is not None and path.is_file():
        return Weights(model, path, "path")
    if path is not None:
        return Weights(model, None, reason=f"{path} does not exist", fix="check the path")
    if model == _DEFAULT:
        return _cached(model, {"hf_hub": _DEFAULT_HUB})
    return _find_public(model, architecture, weights)


def pull_weights(model: str) -> Weights:
    """Download the weights of a public model, for later runs without a network.

    Raises:
        SettingsError: the model does not exist, or a package is missing.
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
        raise ModelError("weights_missing", f"cannot download clip model {model!r} ({error})") from error
    return find_weights(model)


def import_open_clip() -> Any:
    """Import open-clip, even if the installed torchvision was built for another torch.

    open-clip only uses torchvision's Python transforms. A torchvision whose compiled operators cannot be loaded (built for
    CUDA, with a torch for CPUs) still registers fakes for two of them at import, and fails because they are undefined:
    defining their schemas is enough. Matching builds are not changed.

    Raises:
        ModelError: open-clip cannot be imported; the message says what to install.
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
            f"cannot import open-clip with {versions} ({type(error).__name__}: {error}); install a torchvision "
            "that was built for this torch"
        )
        raise ModelError("weights_missing", message) from error
    return open_clip


# Referenced for the life of the process: a library that is garbage-collected removes its operators.
_operators: list[Any] = []


def _define_missing_operators(torch: Any) -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".", 1)[0] in ("torchvision", "open_clip")]:
        del sys.modules[name]  # left behind by the failed import
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # already defined
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _operators.append(library)


def _find_public(model: str, architecture: str, tag: str) -> Weights:
    config = _public_config(architecture, tag)
    if config is None:
        reason = f"open-clip has no weights {tag!r} for {architecture!r}"
        fix = "choose one of its public tags (python -c 'import open_clip; print(open_clip.list_pretrained())'), or a file"
        fix += path_hint(tag)
        return Weights(model, None, reason=reason, fix=fix)
    text = import_open_clip().get_model_config(architecture)["text_cfg"]
    if text.get("hf_tokenizer_name") or text.get("hf_model_name"):
        reason = f"{architecture!r} needs a tokenizer that open-clip does not include"
        fix = "choose another architecture (ViT-B-32), or save the model with its tokenizer and use local-dir:FOLDER"
        return Weights(model, None, reason=reason, fix=fix)
    return _cached(model, config)


def _cached(model: str, config: Mapping[str, Any]) -> Weights:
    """Return the weights of open-clip's entry `config`; unavailable unless they were pulled before."""
    path = _cached_file(config)
    if path is None:
        fix = f"run: promptreel models pull clip:{model}{path_hint(model.partition(':')[2])}"
        return Weights(model, None, reason=f"the weights of clip model {model!r} are not on this machine", fix=fix)
    return Weights(model, path, "models folder")


def _public_config(architecture: str, tag: str) -> Mapping[str, Any] | None:
    """Return open-clip's entry for public weights; None if it has none or cannot be imported."""
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


def _weights_identity(weights: Weights) -> str:
    path = weights.path
    if weights.source != "path" or path is None:
        return weights.model
    architecture = "local-dir" if path.is_dir() else weights.model.partition(":")[0]
    file = _weights_in(path) if path.is_dir() else path
    assert file is not None
    return f"{architecture}:{file.stem}-{file_identity(file)}"


def _load(model: str, weights: Weights) -> tuple[Any, Any, Any, int]:
    """Return (model in evaluation mode on the CPU, image transform, tokenizer, dimension)."""
    import torch

    open_clip = import_open_clip()
    torch.set_num_threads(cores())
    name, _, tag = model.partition(":")
    options: dict[str, Any] = {"weights_only": True}
    if model.startswith(_LOCAL_FOLDER):
        name = f"{_LOCAL_FOLDER}{weights.path}"
    else:
        options |= {"pretrained": str(weights.path), **_training_options(open_clip.get_pretrained_cfg(name, tag) or {})}
    try:
        loaded, transform = open_clip.create_model_from_pretrained(name, **options)
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # torch, safetensors and open-clip raise different errors
        message = f"cannot load clip weights {weights.path} as {name} ({type(error).__name__}: {error})"
        raise ModelError("weights_missing", message) from error
    return loaded.eval(), transform, tokenizer, open_clip.get_model_config(name)["embed_dim"]


def _training_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preprocessing and activation of public weights; open-clip derives them from the tag, not from the file."""
    if not config:
        return {}
    return {
        "image_mean": config.get("mean"),
        "image_std": config.get("std"),
        "image_interpolation": config.get("interpolation"),
        "image_resize_mode": config.get("resize_mode"),
        "force_quick_gelu": bool(config.get("quick_gelu")),
    }


def _load_picture(path: Path) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft("RGB", (512, 512))  # decodes a large JPEG at a fraction of its size
            return image.convert("RGB")
    except OSError as error:
        raise ModelError("embedding_failed", f"{path}: cannot be read ({error})") from error
