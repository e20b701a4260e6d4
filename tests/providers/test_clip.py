"""Image and text embeddings of the real open-clip with tiny random weights."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptreel.providers import clip, local_models
from promptreel.providers.clip import ClipEmbedder, find_weights, pull_weights
from promptreel.providers.weights import MODELS_VARIABLE, is_installed
from promptreel.schemas.errors import ModelError, SettingsError
from promptreel.schemas.settings import ImageEmbeddingSettings
from tests.tiny_models import CLIP_ARCHITECTURE, CLIP_CONFIG, make_clip_file, make_clip_folder, register_clip

if not (is_installed("torch") and is_installed("open_clip")):
    pytest.skip("torch or open-clip is not installed: pip install 'promptreel[clip]'", allow_module_level=True)

ROOT = Path(__file__).parents[2]
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_clip_folder(tmp_path_factory.mktemp("clip") / "mine")


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    register_clip(tmp_path_factory.mktemp("architecture"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """40 different JPEGs."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    paths = []
    for number in range(40):
        coarse = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.jpg")
        coarse.resize((320, 180), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def embedder(folder):
    return ClipEmbedder(f"local-dir:{folder}")


def test_pictures_become_float32_vectors_of_unit_length(folder, pictures):
    vectors = embedder(folder).embed_images(pictures)
    assert vectors.dtype == np.float32
    assert vectors.shape == (40, CLIP_CONFIG["embed_dim"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_texts_become_vectors_in_the_same_space(folder):
    vectors = embedder(folder).embed_texts(["a red van", "crates", "x" * 5000, ""])
    assert (vectors.dtype, vectors.shape) == (np.float32, (4, CLIP_CONFIG["embed_dim"]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert float(vectors[0] @ vectors[1]) < 0.999


def test_no_input_gives_no_rows_of_the_right_width(folder):
    assert embedder(folder).embed_images([]).shape == (0, CLIP_CONFIG["embed_dim"])
    assert embedder(folder).embed_texts([]).shape == (0, CLIP_CONFIG["embed_dim"])


def test_vector_of_a_picture_does_not_depend_on_the_batch(folder, pictures, monkeypatch):
    together = embedder(folder).embed_images(pictures)
    for size in (1, 7):
        monkeypatch.setattr(clip, "BATCH", size)
        np.testing.assert_allclose(embedder(folder).embed_images(pictures), together, atol=1e-5)
    np.testing.assert_allclose(embedder(folder).embed_images([pictures[3]] * 2), together[[3, 3]], atol=1e-5)
    assert np.abs(together[3] - together[4]).max() > 1e-3


def test_vector_equals_that_of_open_clip(folder, pictures):
    import torch

    model, transform = clip.import_open_clip().create_model_from_pretrained(f"local-dir:{folder}")
    with Image.open(pictures[0]) as image, torch.no_grad():
        direct = model.eval().encode_image(transform(image.convert("RGB"))[None]).numpy()[0]
    np.testing.assert_allclose(
        embedder(folder).embed_images(pictures[:1])[0], direct / np.linalg.norm(direct), atol=1e-4
    )


def test_weights_in_a_file_or_folder_give_equal_vectors(folder, pictures, registered):
    file = folder / "open_clip_model.safetensors"
    found = ClipEmbedder(f"{CLIP_ARCHITECTURE}:{file}")
    assert find_weights(found.model).source == "path"
    np.testing.assert_allclose(found.embed_images(pictures), embedder(folder).embed_images(pictures), atol=1e-5)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_local_weights_are_named_by_their_content(tmp_path, kind, registered):
    if kind == "folder":
        make_clip_folder(tmp_path / "m")
        model, file = f"local-dir:{tmp_path / 'm'}", tmp_path / "m" / FILES[0]
    else:
        file = make_clip_file(tmp_path / "mine.safetensors")
        model = f"{CLIP_ARCHITECTURE}:{file}"
    before = ClipEmbedder(model)
    first = (before.name, before.fingerprint())
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    after = ClipEmbedder(model)
    assert after.name != first[0]
    assert after.fingerprint() != first[1]
    assert after.name.startswith("clip:")
    assert str(tmp_path) not in after.name


def test_changed_weights_are_reloaded(tmp_path, pictures):
    make_clip_folder(tmp_path / "m", seed=1)
    before = embedder(tmp_path / "m").embed_images(pictures[:2])
    make_clip_folder(tmp_path / "m", seed=2)
    after = embedder(tmp_path / "m").embed_images(pictures[:2])
    assert np.abs(after - before).max() > 1e-2


def test_model_is_loaded_once_for_many_calls(folder, pictures, monkeypatch):
    monkeypatch.setattr(local_models, "_models", {})
    loads = []
    load = clip._load
    monkeypatch.setattr(clip, "_load", lambda *arguments: loads.append(arguments) or load(*arguments))
    for _ in range(3):
        embedder(folder).embed_images(pictures[:2])
        embedder(folder).embed_texts(["crates"])
    assert len(loads) == 1


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"<html>" + data[6:]]
)
def test_corrupt_weights_are_a_model_error(tmp_path, pictures, damage):
    folder = make_clip_folder(tmp_path / "m")
    file = folder / FILES[0]
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelError, match=r"cannot load clip weights .*m as local-dir") as raised:
        embedder(folder).embed_images(pictures[:1])
    assert raised.value.code == "weights_missing"


def test_weights_of_another_architecture_are_a_model_error(folder, pictures):
    with pytest.raises(ModelError, match=r"cannot load clip weights .* as ViT-B-32"):
        ClipEmbedder(f"ViT-B-32:{folder / FILES[0]}").embed_images(pictures[:1])


def test_unreadable_picture_is_a_model_error(folder, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    with pytest.raises(ModelError, match=r"x\.jpg: cannot be read") as raised:
        embedder(folder).embed_images([tmp_path / "x.jpg"])
    assert raised.value.code == "embedding_failed"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("ViT-B-32", "does not name its weights"),
        ("ViT-B-32:", "does not name its weights"),
        (":openai", "does not name its weights"),
        ("ViT-B-32:/nowhere/mine.bin", "/nowhere/mine.bin does not exist"),
        ("local-dir:/nowhere", "has no open_clip_config.json or no weights"),
    ],
)
def test_missing_weights_are_found_without_importing_torch(model, reason):
    program = (
        "import sys; from promptreel.providers.clip import find_weights; found = find_weights(sys.argv[1]); "
        "assert 'torch' not in sys.modules and 'open_clip' not in sys.modules; "
        "assert not found.available and found.fix; print(found.reason)"
    )
    done = subprocess.run([sys.executable, "-c", program, model], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert reason in done.stdout


FIND_WEIGHTS = """
import sys
from promptreel.providers import clip, whisper
from promptreel.schemas.settings import ImageEmbeddingSettings, TranscriptionSettings
assert "run: promptreel models pull" in clip.find_weights(ImageEmbeddingSettings().model).fix
assert "run: promptreel models pull" in whisper.find_weights(TranscriptionSettings().model).fix
print({name.split(".")[0] for name in sys.modules} & {"torch", "open_clip", "faster_whisper", "ctranslate2"})
"""


def test_finding_default_weights_imports_no_library(tmp_path):
    environment = {**os.environ, MODELS_VARIABLE: str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", FIND_WEIGHTS], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


def test_default_model_matches_open_clip():
    model = ImageEmbeddingSettings().model
    architecture, _, tag = model.partition(":")
    assert model == clip._DEFAULT
    assert clip.import_open_clip().get_pretrained_cfg(architecture, tag)["hf_hub"] == clip._DEFAULT_HUB
    text = clip.import_open_clip().get_model_config(architecture)["text_cfg"]
    assert not text.get("hf_tokenizer_name")


def test_random_weights_are_never_used_silently(tmp_path, pictures):
    (tmp_path / "open_clip_config.json").write_text(
        (make_clip_folder(tmp_path / "m") / "open_clip_config.json").read_text()
    )
    for model in ("ViT-B-32", f"local-dir:{tmp_path}"):
        with pytest.raises(ModelError) as raised:
            ClipEmbedder(model).embed_images(pictures[:1])
        assert raised.value.code == "weights_missing"


def test_unknown_public_tag_is_reported_with_the_fix(monkeypatch, tmp_path):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    found = find_weights("ViT-B-32:nonsense")
    assert "no weights 'nonsense' for 'ViT-B-32'" in found.reason
    assert "list_pretrained" in found.fix
    with pytest.raises(SettingsError, match="nonsense"):
        pull_weights("ViT-B-32:nonsense")


def test_file_does_not_shadow_public_weights(monkeypatch, tmp_path):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    for name in ("openai", "mine.safetensors", "datacomp_xl_s13b_b90k"):
        (tmp_path / name).write_bytes(b"weights")
    public = find_weights("ViT-B-32:openai")
    assert (public.available, public.fix.endswith("; for the file openai write ./openai")) == (False, True)
    default = find_weights(ImageEmbeddingSettings().model)
    assert (default.available, default.fix.endswith("write ./datacomp_xl_s13b_b90k")) == (False, True)
    unknown = find_weights("ViT-B-32:mine.safetensors")
    assert (unknown.available, unknown.fix.endswith("write ./mine.safetensors")) == (False, True)
    assert find_weights("ViT-B-32:./mine.safetensors").path == Path("mine.safetensors")


def test_architecture_with_a_downloaded_tokenizer_is_unavailable(monkeypatch, tmp_path):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    assert "needs a tokenizer" in find_weights("ViT-B-16-SigLIP:webli").reason


def test_missing_public_weights_are_reported_with_the_fix(monkeypatch, tmp_path, pictures):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    found = find_weights("ViT-B-32:openai")
    assert found.fix == "run: promptreel models pull clip:ViT-B-32:openai"
    with pytest.raises(ModelError, match="promptreel models pull clip:ViT-B-32:openai"):
        ClipEmbedder("ViT-B-32:openai").embed_images(pictures[:1])


@pytest.mark.parametrize(
    ("tag", "repository", "names"),
    [
        ("openai", "timm/vit_base_patch32_clip_224.openai", FILES[:1]),
        ("datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", FILES[1:]),
    ],
)
def test_pulled_weights_are_found_by_public_name(monkeypatch, tmp_path, tag, repository, names):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    for name in names:
        cached = tmp_path / f"models--{repository.replace('/', '--')}"  # the layout of the hub's cache
        file = cached / "snapshots" / ("0" * 40) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / "main").write_text("0" * 40)
        file.write_bytes(b"weights")
        found = find_weights(f"ViT-B-32:{tag}")
        assert (found.path, found.source) == (file, "models folder")
        assert ClipEmbedder(f"ViT-B-32:{tag}").name == f"clip:ViT-B-32:{tag}"
        file.unlink()


def test_public_weights_use_their_training_configuration(folder, registered, monkeypatch):
    # open-clip derives both from the tag; with the file alone it would use its defaults.
    open_clip = clip.import_open_clip()
    trained = {
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
        "interpolation": "bilinear",
        "resize_mode": "squash",
        "quick_gelu": True,
    }
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *arguments: trained if arguments[1] == "mine" else {})
    weights = clip.Weights(f"{CLIP_ARCHITECTURE}:mine", folder / FILES[0], "models folder")
    model, transform, _, _ = clip._load(weights.model, weights)
    assert "Normalize(mean=(0, 0, 0), std=(1, 1, 1))" in str(transform).replace("[", "(").replace("]", ")")
    assert "bilinear" in str(transform)
    assert "QuickGELU" in str(model)
    plain, _, _, _ = clip._load(f"{CLIP_ARCHITECTURE}:{folder / FILES[0]}", weights)
    assert "QuickGELU" not in str(plain)


def test_open_clip_is_imported_with_a_mismatched_torchvision():
    program = (
        "import torch\n"
        "try:\n"
        "    import torchvision\n"
        "    print('matching')\n"
        "except RuntimeError as error:\n"
        "    print('mismatched', error)\n"
        "from promptreel.providers.clip import import_open_clip\n"
        "import_open_clip().transform.image_transform((32, 32), is_train=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] in ("matching", "mismatched")


def test_failed_import_of_open_clip_reports_the_versions(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    message = r"open-clip with torch \S+, torchvision \S+ .*install a torchvision"
    with pytest.raises(ModelError, match=message) as raised:
        clip.import_open_clip()
    assert raised.value.code == "weights_missing"


def test_missing_package_is_reported_with_the_fix(monkeypatch):
    monkeypatch.setattr(clip, "is_installed", lambda package: package != "torch")
    found = find_weights("ViT-B-32:openai")
    assert (found.reason, found.fix) == ("torch not installed", "pip install 'promptreel[clip]'")
    with pytest.raises(SettingsError, match="torch not installed"):
        pull_weights("ViT-B-32:openai")
