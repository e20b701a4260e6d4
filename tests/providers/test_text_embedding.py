"""The texts of a result to embed, and the local embedding models."""

import json
import socket
import subprocess
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from promptreel.providers import local_models, text_embedding
from promptreel.providers.text_embedding import (
    BATCH,
    MAX_TEXT_CHARS,
    ClipTextEmbedder,
    IndexedText,
    SentenceTransformersEmbedder,
    WordLlamaEmbedder,
    embedding_key,
    find_text_weights,
    instances_of,
    pack_vectors,
    text_batches,
    texts_of,
    unit_rows,
    unpack_vectors,
)
from promptreel.providers.weights import MODELS_VARIABLE, is_installed
from promptreel.schemas.errors import ModelError
from promptreel.schemas.field_paths import leaf_fields, parse_schema, render_text
from tests.tiny_models import CLIP_CONFIG, make_clip_folder

# Each pair is closer to each other than to any other line.
PARAPHRASES = [
    ("a dog runs across the beach", "a puppy is running on the sand by the sea"),
    ("the stock market fell sharply", "share prices dropped a lot"),
    ("she is cooking pasta in the kitchen", "a woman prepares noodles at home"),
    ("two men repair a car engine", "mechanics are fixing an automobile motor"),
    ("heavy rain floods the street", "the road is under water after a storm"),
    ("children play football in the park", "kids kick a soccer ball on the grass"),
    ("the doctor examines a patient", "a physician checks on a sick person at the hospital"),
    ("a plane takes off from the runway", "an aircraft leaves the airport"),
    ("the crowd cheers at a concert", "fans applaud the band during a music show"),
    ("he paints a portrait in oil", "an artist creates a picture with colours"),
    ("the teacher explains mathematics", "a lesson on algebra in the classroom"),
    ("snow covers the mountain village", "a town in the hills in white winter"),
]


@pytest.fixture
def offline(monkeypatch):
    """Fail the test on any connection or name lookup."""

    def fail(*arguments):
        pytest.fail(f"used the network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)


needs_wordllama = pytest.mark.skipif(not is_installed("wordllama"), reason="wordllama is not installed")

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "shots": {"type": "integer"},
        "scene": {"type": "object", "properties": {"place": {"type": "string"}, "is_night": {"type": "boolean"}}},
        "people": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "hats": {"type": "array", "items": {"type": "string"}}},
            },
        },
    },
}
LEAVES = leaf_fields(parse_schema(SCHEMA))
METADATA = {
    "title": "Harbour",
    "tags": ["dawn", "", "boats"],
    "shots": 4,
    "scene": {"place": "quay", "is_night": False},
    "people": [{"name": "Ada", "hats": ["red", "blue"]}, {"hats": []}, {"name": "Bo"}, {"name": None}],
}


def test_each_text_has_its_field_and_instance():
    found = texts_of(METADATA, "title: Harbour", "hello there", LEAVES)
    assert [(text.field, text.instance, text.text) for text in found] == [
        ("title", "title", "Harbour"),
        ("tags", "tags[0]", "dawn"),
        ("tags", "tags[2]", "boats"),
        ("scene.place", "scene.place", "quay"),
        ("people[].name", "people[0].name", "Ada"),
        ("people[].name", "people[2].name", "Bo"),
        ("people[].hats", "people[0].hats[0]", "red"),
        ("people[].hats", "people[0].hats[1]", "blue"),
        ("metadata_text", "metadata_text", "title: Harbour"),
        ("transcription", "transcription", "hello there"),
    ]


@pytest.mark.parametrize("path", ["people[].name", "people[].hats[]", "tags", "tags[]", "title", "shots"])
def test_disabled_field_is_in_no_text(path):
    complete = render_text(METADATA, LEAVES)
    found = {text.instance: text.text for text in texts_of(METADATA, complete, "t", LEAVES, disabled=[path])}
    everything = {text.instance: text.text for text in texts_of(METADATA, complete, "t", LEAVES)}
    plain = path.removesuffix("[]")
    left_out = [text.instance for text in texts_of(METADATA, "", "", LEAVES) if text.field == plain]
    assert everything.keys() - found.keys() == set(left_out)
    lines = [line for line in complete.splitlines() if not line.startswith(f"{plain}: ")]
    assert len(lines) == len(LEAVES) - 1
    assert found["metadata_text"].splitlines() == lines


def test_result_with_all_fields_disabled_has_no_text_but_its_transcript():
    disabled = [leaf.path for leaf in LEAVES]
    found = texts_of(METADATA, render_text(METADATA, LEAVES), "t", LEAVES, disabled)
    assert [text.field for text in found] == ["transcription"]


def test_blank_texts_are_not_embedded():
    assert texts_of({"title": " \n"}, "", "  ", LEAVES) == ()
    assert texts_of({}, "", "words", LEAVES) == (IndexedText("transcription", "transcription", "words"),)


def test_value_that_does_not_fit_the_schema_is_skipped():
    assert texts_of({"title": 5, "tags": "dawn", "people": {"name": "Ada"}}, "", "", LEAVES) == (
        IndexedText("tags", "tags", "dawn"),
        IndexedText("people[].name", "people.name", "Ada"),
    )


def test_instances_of_nested_lists_have_every_index():
    value = {"rooms": [{"shelves": [["a", "b"], ["c"]]}, {}, {"shelves": [[], ["d"]]}]}
    assert list(instances_of(value, "rooms[].shelves")) == [
        ("rooms[0].shelves[0][0]", "a"),
        ("rooms[0].shelves[0][1]", "b"),
        ("rooms[0].shelves[1][0]", "c"),
        ("rooms[2].shelves[1][0]", "d"),
    ]


@given(st.lists(st.text(max_size=3), max_size=350))
def test_batches_have_each_distinct_text_once(texts):
    batches = text_batches(texts)
    assert [text for batch in batches for text in batch] == list(dict.fromkeys(texts))
    assert all(len(batch) == BATCH for batch in batches[:-1])
    assert all(0 < len(batch) <= BATCH for batch in batches)


def test_long_texts_are_cut_before_deduplication():
    long = "x" * MAX_TEXT_CHARS
    assert text_batches([long + "a", long + "b"]) == [(long,)]


@given(arrays.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 300)), elements=st.floats(width=32)))
def test_vectors_survive_json_without_loss(vectors):
    unpacked = unpack_vectors(json.loads(json.dumps(pack_vectors(vectors))))
    assert unpacked.shape == vectors.shape
    assert unpacked.tobytes() == vectors.tobytes()


def test_unit_rows_have_length_one_and_zeros_stay_zeros():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = unit_rows(np.array([[3, 4], [0, 0], [-2, 0]], np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [-1, 0]])
    assert found.dtype == np.float32


def test_batch_key_depends_on_texts_and_model():
    keys = {
        embedding_key(model, texts)
        for model in (WordLlamaEmbedder(), SentenceTransformersEmbedder("all-MiniLM-L6-v2"))
        for texts in (["a", "b"], ["b", "a"], ["ab"])
    }
    assert len(keys) == 6


# WordLlama


@needs_wordllama
def test_paraphrases_are_closer_than_other_texts():
    firsts, seconds = zip(*PARAPHRASES, strict=True)
    vectors = WordLlamaEmbedder().embed([*firsts, *seconds])
    similarities = vectors[: len(firsts)] @ vectors[len(firsts) :].T
    correct = int((similarities.argmax(axis=1) == np.arange(len(firsts))).sum())
    assert correct >= len(firsts) - 2
    others = similarities[~np.eye(len(firsts), dtype=bool)]
    assert np.diag(similarities).mean() > others.mean() + 0.2


@needs_wordllama
def test_vectors_have_unit_length_independent_of_the_batch():
    model = WordLlamaEmbedder()
    texts = [text for pair in PARAPHRASES for text in pair] + ["word " * 1500]
    together = model.embed(texts)
    assert (together.dtype, together.shape) == (np.float32, (25, 256))
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([model.embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@needs_wordllama
def test_empty_text_gives_zeros_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors = WordLlamaEmbedder().embed(["", "a dog", ""])
    np.testing.assert_array_equal(vectors[[0, 2]], np.zeros((2, 256), np.float32))
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors[1]) == pytest.approx(1, abs=1e-5)


@needs_wordllama
@pytest.mark.parametrize("text", ["😀😀", "日本語のテキスト", "\x00\x01", " \n\t "])
def test_any_text_gives_finite_numbers(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors = WordLlamaEmbedder().embed([text])
    assert np.isfinite(vectors).all()


@needs_wordllama
def test_no_texts_give_no_rows():
    assert WordLlamaEmbedder().embed([]).shape == (0, 256)


@needs_wordllama
def test_wordllama_is_loaded_once_without_a_network(offline, monkeypatch):
    monkeypatch.setattr(local_models, "_models", {})
    loads = []
    load = text_embedding._load_wordllama
    monkeypatch.setattr(text_embedding, "_load_wordllama", lambda: loads.append(1) or load())
    for _ in range(3):
        WordLlamaEmbedder().embed(["a dog"])
    assert loads == [1]


@needs_wordllama
def test_wordllama_weights_are_in_the_installed_package():
    found = find_text_weights("wordllama")
    assert found.available
    assert found.source.startswith("wordllama 0.")
    assert found.size_bytes > 10_000_000
    assert WordLlamaEmbedder().name == f"wordllama:{found.source.split()[1]}"


def test_missing_wordllama_is_reported_with_the_fix(monkeypatch):
    monkeypatch.setattr(local_models, "_models", {})
    monkeypatch.setattr(text_embedding, "_package_folder", lambda package: None)
    assert find_text_weights("wordllama").fix == "pip install wordllama"
    with pytest.raises(ModelError, match="pip install wordllama") as raised:
        WordLlamaEmbedder().embed(["a dog"])
    assert (raised.value.code, raised.value.retryable) == ("weights_missing", True)


# Other models


def test_missing_sentence_transformers_is_reported_with_the_fix(monkeypatch):
    monkeypatch.setattr(text_embedding, "is_installed", lambda package: False)
    found = find_text_weights("sentence-transformers:all-MiniLM-L6-v2")
    assert found.reason == "sentence-transformers is not installed"
    assert found.fix == "pip install 'promptreel[sentence-transformers]'"
    with pytest.raises(ModelError, match="sentence-transformers is not installed; pip install"):
        SentenceTransformersEmbedder("all-MiniLM-L6-v2").embed(["a dog"])


def test_missing_sentence_transformer_weights_are_reported_with_the_fix(monkeypatch, tmp_path, offline):
    monkeypatch.setattr(text_embedding, "is_installed", lambda package: True)
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    found = find_text_weights("sentence-transformers:all-MiniLM-L6-v2")
    assert found.fix == "run: promptreel models pull sentence-transformers:all-MiniLM-L6-v2"
    # The layout of the hub's cache.
    folder = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (folder / "snapshots" / ("0" * 40) / "modules.json").write_text("[]")
    assert find_text_weights("sentence-transformers:all-MiniLM-L6-v2").path == folder / "snapshots" / ("0" * 40)


def test_sentence_transformer_folder_is_named_by_its_content(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    first = SentenceTransformersEmbedder(str(folder)).name
    (folder / "model.safetensors").write_bytes(b"two!")
    assert SentenceTransformersEmbedder(str(folder)).name != first
    assert first.startswith("sentence-transformers:mine-")


def test_folder_does_not_shadow_a_sentence_transformer(monkeypatch, tmp_path, offline):
    monkeypatch.setattr(text_embedding, "is_installed", lambda package: True)
    monkeypatch.setattr(local_models, "_models", {})
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.safetensors").write_bytes(b"one")
    loaded = []
    library = types.SimpleNamespace(SentenceTransformer=lambda name, **_: loaded.append(name) or OneVector())
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    found = find_text_weights("sentence-transformers:tiny")
    assert (found.available, found.fix.endswith("; for the folder tiny write ./tiny")) == (False, True)
    snapshot = tmp_path / "models" / "models--sentence-transformers--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "modules.json").write_text("[]")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    by_name, by_path = SentenceTransformersEmbedder("tiny"), SentenceTransformersEmbedder("./tiny")
    assert by_name.name == "sentence-transformers:tiny"
    assert by_path.name.startswith("sentence-transformers:tiny-")
    by_name.embed(["a dog"])
    by_path.embed(["a dog"])
    assert [Path(name) for name in loaded] == [snapshot, Path("tiny")]


class OneVector:
    def encode(self, texts, **_):
        return np.ones((len(texts), 1), np.float32)


@pytest.mark.skipif(
    not (is_installed("torch") and is_installed("open_clip")), reason="torch or open-clip is not installed"
)
def test_clip_text_embedder_embeds_texts(tmp_path):
    model = ClipTextEmbedder(f"local-dir:{make_clip_folder(tmp_path / 'm')}")
    vectors = model.embed(["a dog", "crates"])
    assert (vectors.dtype, vectors.shape) == (np.float32, (2, CLIP_CONFIG["embed_dim"]))
    assert model.name.startswith("clip:local-dir:")


def test_creating_an_embedder_imports_no_heavy_library():
    program = (
        "import sys; from promptreel.providers.text_embedding import *; "
        "WordLlamaEmbedder(); find_text_weights('wordllama'); "
        "assert not {'torch', 'wordllama', 'sentence_transformers', 'open_clip'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True)
