"""Read request bodies: texts, parts, content hash, and the spellings that the service accepts."""

import base64
import hashlib
import json
import re


def parts_of(body):
    """Yield the parts of a request of any method."""
    contents = body.get("contents", [])
    for content in contents if isinstance(contents, list) else [contents]:
        yield from content.get("parts", [])
    yield from body.get("content", {}).get("parts", [])  # an embedding
    for request in body.get("requests", []):  # a batch of embeddings
        yield from parts_of(request)


def text_of(body):
    """Return the instruction and the texts of a request, one per line."""
    instruction = body.get("systemInstruction") or {}
    parts = [*instruction.get("parts", []), *parts_of(body)]
    return "\n".join(part["text"] for part in parts if "text" in part)


def content_hash(model, body):
    """Return a hash that is the same for every try of the same request, at any tier."""
    body = {name: value for name, value in body.items() if name != "serviceTier"}
    return hashlib.sha256(json.dumps([model, body], sort_keys=True).encode()).hexdigest()[:24]


def decode_base64(text):
    """Decode base64 in either alphabet; clients use both."""
    return base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_"))


def with_camel_case_keys(value):
    """Return a body with keys in camel case, because the service accepts both cases; schemas are unchanged."""
    if isinstance(value, list):
        return [with_camel_case_keys(part) for part in value]
    if not isinstance(value, dict):
        return value
    renamed = {re.sub(r"_([a-z])", lambda match: match.group(1).upper(), key): part for key, part in value.items()}
    return {key: part if key.endswith("Schema") else with_camel_case_keys(part) for key, part in renamed.items()}
