"""Ways to damage the files of a run: each damages a run folder and returns the name of the damaged file."""

import json

FIRST_MANIFEST = "manifests/000001.json"


def overwritten(name, content):
    """Replace the content of the file `name`."""

    def damage(folder):
        (folder / name).write_bytes(content)
        return name

    return damage


def truncated(name):
    """Truncate the file `name` to half its size."""

    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        return name

    return damage


def changed(name, **values):
    """Change the values of some keys of a JSON file."""

    def damage(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **values}))
        return name

    return damage


def part(change):
    """Apply `change` to the content of a results part file; None removes the file."""

    def damage(folder):
        path = next((folder / "parts" / "results").glob("*.parquet"))
        if change is None:
            path.unlink()
        else:
            path.write_bytes(change(path.read_bytes()))
        return path.relative_to(folder).as_posix()

    return damage


MANIFEST_DAMAGES = {
    "truncated manifest": truncated(FIRST_MANIFEST),
    "empty manifest": overwritten(FIRST_MANIFEST, b""),
    "non-UTF-8 manifest": overwritten(FIRST_MANIFEST, b'{"run_id": "\xff\xfe"}'),
    "manifest is a list": overwritten(FIRST_MANIFEST, b"[1, 2]"),
    "manifest is null": overwritten(FIRST_MANIFEST, b"null"),
    "manifest without parts": overwritten(FIRST_MANIFEST, b'{"run_id": "run_a", "number": 1}'),
    "manifest with parts as text": changed(FIRST_MANIFEST, parts="tables"),
    "manifest with a part without file": changed(FIRST_MANIFEST, parts=[{"table": "results"}]),
    "manifest with counts as a list": changed(FIRST_MANIFEST, counts=[1]),
    "manifest with an unknown status": changed(FIRST_MANIFEST, status="perfect"),
    "deeply nested manifest": overwritten(FIRST_MANIFEST, b"[" * 200_000),
}
REQUEST_DAMAGES = {
    "truncated request": truncated("request.json"),
    "empty request": overwritten("request.json", b""),
    "non-UTF-8 request": overwritten("request.json", b'{"run_id": "\xff\xfe"}'),
    "request is a list": overwritten("request.json", b'["prompt"]'),
    "request is a number": overwritten("request.json", b"7"),
    "request without a prompt": overwritten("request.json", b'{"run_id": "run_a"}'),
    "request with prompt as text": changed("request.json", prompt="describe"),
    "request with prompt without schema": changed("request.json", prompt={"name": "a", "prompt_text": "Describe it."}),
    "request with settings as a list": changed("request.json", settings=[]),
    "request with a setting as a list": changed("request.json", settings={"model": []}),
    "request with a setting of wrong type": changed("request.json", settings={"model": {"temperature": "hot"}}),
    "request with target as a number": changed("request.json", target=7),
    "deeply nested request": overwritten("request.json", b"[" * 200_000),
}  # fmt: skip
PART_DAMAGES = {
    "missing part": part(None),
    "truncated part": part(lambda content: content[: len(content) // 2]),
    "empty part": part(lambda content: b""),
    "part with corrupt footer": part(lambda content: content[:-200] + bytes(192) + content[-8:]),
    "part without trailing magic bytes": part(lambda content: content[:-8] + bytes(8)),
}
DAMAGES = {**MANIFEST_DAMAGES, **REQUEST_DAMAGES, **PART_DAMAGES}
