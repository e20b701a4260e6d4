"""A tiny language model with random weights in GGUF format, for llama.cpp's server: its answers are random text."""

import struct

import numpy as np

_ALIGNMENT = 32
_UINT32, _FLOAT32, _STRING, _ARRAY, _INT32 = 4, 6, 8, 9, 5
_EMBEDDING, _HEADS, _HIDDEN = 32, 2, 64
_CONTEXT = 8192
_TEMPLATE = "{% for message in messages %}{{ message.content }}\n{% endfor %}"


def write_tiny_gguf(path):
    """Write a llama model of one layer whose tokens are the 256 bytes; about 100 kB."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [2, 3, 3, *[6] * 256]  # unknown, control, byte
    metadata = [
        ("general.architecture", _STRING, "llama"),
        ("general.name", _STRING, "tiny"),
        ("llama.context_length", _UINT32, _CONTEXT),
        ("llama.embedding_length", _UINT32, _EMBEDDING),
        ("llama.block_count", _UINT32, 1),
        ("llama.feed_forward_length", _UINT32, _HIDDEN),
        ("llama.attention.head_count", _UINT32, _HEADS),
        ("llama.attention.layer_norm_rms_epsilon", _FLOAT32, 1e-5),
        ("llama.rope.dimension_count", _UINT32, _EMBEDDING // _HEADS),
        ("llama.vocab_size", _UINT32, len(tokens)),
        ("tokenizer.ggml.model", _STRING, "llama"),
        ("tokenizer.ggml.tokens", _ARRAY, (_STRING, tokens)),
        ("tokenizer.ggml.scores", _ARRAY, (_FLOAT32, [0.0] * len(tokens))),
        ("tokenizer.ggml.token_type", _ARRAY, (_INT32, kinds)),
        ("tokenizer.ggml.bos_token_id", _UINT32, 1),
        ("tokenizer.ggml.eos_token_id", _UINT32, 2),
        ("tokenizer.chat_template", _STRING, _TEMPLATE),
    ]
    path.write_bytes(_gguf(metadata, _tensors(len(tokens))))
    return path


def _tensors(vocabulary):
    draw = np.random.default_rng(7)
    shapes = {"token_embd.weight": (vocabulary, _EMBEDDING), "output.weight": (vocabulary, _EMBEDDING)}
    shapes |= {f"blk.0.attn_{part}.weight": (_EMBEDDING, _EMBEDDING) for part in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{part}.weight": (_HIDDEN, _EMBEDDING) for part in ("gate", "up")}
    shapes |= {"blk.0.ffn_down.weight": (_EMBEDDING, _HIDDEN)}
    tensors = {name: draw.normal(0, 0.2, shape).astype("<f4") for name, shape in shapes.items()}
    norms = ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight")
    return tensors | {name: np.ones(_EMBEDDING, "<f4") for name in norms}


def _gguf(metadata, tensors):
    """Return a GGUF file of version 3: header, metadata, tensor descriptions, tensor data."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    parts += [_text(name) + struct.pack("<I", kind) + _value(kind, value) for name, kind, value in metadata]
    offset = 0
    for name, tensor in tensors.items():
        dimensions = tensor.shape[::-1]
        parts.append(_text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, 0, offset))
        offset += len(_padded(tensor.tobytes()))
    return _padded(b"".join(parts)) + b"".join(_padded(tensor.tobytes()) for tensor in tensors.values())


def _value(kind, value):
    if kind == _STRING:
        return _text(value)
    if kind == _ARRAY:
        inner, values = value
        return struct.pack("<IQ", inner, len(values)) + b"".join(_value(inner, item) for item in values)
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f"}[kind], value)


def _text(text):
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _padded(content):
    return content + bytes(-len(content) % _ALIGNMENT)
