"""A tiny language model that sees, with random weights in GGUF format, for llama.cpp's server: it writes random text."""

import struct

import numpy as np

_ALIGNMENT = 32
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_EMBEDDING, _HEADS, _HIDDEN = 32, 2, 64
_CONTEXT = 8192
_IMAGE, _PATCH = 32, 8  # pixels
PICTURE_TOKENS = (_IMAGE // _PATCH) ** 2
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


def write_tiny_mmproj(path):
    """Write the vision encoder of the model, in the form of LLaVA: one layer."""
    vision = "clip.vision."
    metadata = [
        ("general.architecture", _STRING, "clip"),
        ("clip.has_vision_encoder", _BOOL, True),
        ("clip.projector_type", _STRING, "mlp"),
        ("clip.use_gelu", _BOOL, True),
        (f"{vision}image_size", _UINT32, _IMAGE),
        (f"{vision}patch_size", _UINT32, _PATCH),
        (f"{vision}embedding_length", _UINT32, _EMBEDDING),
        (f"{vision}feed_forward_length", _UINT32, _HIDDEN),
        (f"{vision}projection_dim", _UINT32, _EMBEDDING),
        (f"{vision}block_count", _UINT32, 1),
        (f"{vision}attention.head_count", _UINT32, _HEADS),
        (f"{vision}attention.layer_norm_epsilon", _FLOAT32, 1e-5),
        (f"{vision}image_mean", _ARRAY, (_FLOAT32, [0.5, 0.5, 0.5])),
        (f"{vision}image_std", _ARRAY, (_FLOAT32, [0.5, 0.5, 0.5])),
    ]
    path.write_bytes(_gguf(metadata, _vision_tensors()))
    return path


def _vision_tensors():
    square = (_EMBEDDING, _EMBEDDING)
    shapes = {
        "v.patch_embd.weight": (_EMBEDDING, 3, _PATCH, _PATCH),
        "v.position_embd.weight": (PICTURE_TOKENS, _EMBEDDING),
        "v.blk.0.ffn_up.weight": (_HIDDEN, _EMBEDDING),
        "v.blk.0.ffn_down.weight": (_EMBEDDING, _HIDDEN),
        **{f"v.blk.0.attn_{part}.weight": square for part in ("q", "k", "v", "out")},
        **{f"v.blk.0.attn_{part}.bias": (_EMBEDDING,) for part in ("q", "k", "v", "out")},
        "v.blk.0.ffn_up.bias": (_HIDDEN,),
        "v.blk.0.ffn_down.bias": (_EMBEDDING,),
        **{
            f"{norm}.{part}": (_EMBEDDING,)
            for norm in ("v.blk.0.ln1", "v.blk.0.ln2", "v.post_ln")
            for part in ("weight", "bias")
        },
        **{f"mm.{layer}.weight": square for layer in (0, 2)},
        **{f"mm.{layer}.bias": (_EMBEDDING,) for layer in (0, 2)},
    }
    draw = np.random.default_rng(7)
    return {name: draw.normal(0, 0.2, shape).astype("<f4") for name, shape in shapes.items()}


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
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f", _BOOL: "<?"}[kind], value)


def _text(text):
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _padded(content):
    return content + bytes(-len(content) % _ALIGNMENT)
