"""Ways to damage the files of a run: each function damages a run folder and returns the name of the damaged file."""

import json

FIRST_MANIFEST = "manifests/000001.json"


def overwritten(name, content):
    """Replace the content of the file `name`."""

    def damage(folder):
        (folder / name).write_bytes(content)
        return name

    return damage


def torn(name):
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
        path = next((folder / "tables" / "results").glob("*.parquet"))
        if change is None:
            path.unlink()
        else:
            path.write_bytes(change(path.read_bytes()))
        return path.relative_to(folder).as_posix()

    return damage


OF_MANIFEST = {
    "torn manifest": torn(FIRST_MANIFEST),
    "empty manifest": overwritten(FIRST_MANIFEST, b""),
    "manifest that is no UTF-8": overwritten(FIRST_MANIFEST, b'{"run_id": "\xff\xfe"}'),
    "manifest that is a list": overwritten(FIRST_MANIFEST, b"[1, 2]"),
    "manifest that is null": overwritten(FIRST_MANIFEST, b"null"),
    "manifest without parts": overwritten(FIRST_MANIFEST, b'{"run_id": "run_a", "number": 1}'),
    "manifest with parts that are text": changed(FIRST_MANIFEST, parts="tables"),
    "manifest with a part without a file": changed(FIRST_MANIFEST, parts=[{"table": "results"}]),
    "manifest with counts that are a list": changed(FIRST_MANIFEST, counts=[1]),
    "manifest with a status of its own": changed(FIRST_MANIFEST, status="perfect"),
    "manifest nested without end": overwritten(FIRST_MANIFEST, b"[" * 200_000),
}
OF_REQUEST = {
    "torn request": torn("request.json"),
    "empty request": overwritten("request.json", b""),
    "request that is no UTF-8": overwritten("request.json", b'{"run_id": "\xff\xfe"}'),
    "request that is a list": overwritten("request.json", b'["prompt"]'),
    "request that is a number": overwritten("request.json", b"7"),
    "request without a prompt": overwritten("request.json", b'{"run_id": "run_a"}'),
    "request with a prompt that is text": changed("request.json", prompt="describe"),
    "request with a prompt without a schema": changed("request.json", prompt={"name": "a", "prompt_text": "Describe it."}),
    "request with settings that are a list": changed("request.json", settings=[]),
    "request with a setting that is a list": changed("request.json", settings={"model": []}),
    "request with a model of another type": changed("request.json", settings={"model": {"temperature": "hot"}}),
    "request with a target that is a number": changed("request.json", target=7),
    "request nested without end": overwritten("request.json", b"[" * 200_000),
}  # fmt: skip
OF_PART = {
    "missing part": part(None),
    "torn part": part(lambda content: content[: len(content) // 2]),
    "empty part": part(lambda content: b""),
    "part with a torn footer": part(lambda content: content[:-200] + bytes(192) + content[-8:]),
    "part without its end": part(lambda content: content[:-8] + bytes(8)),
}
DAMAGES = {**OF_MANIFEST, **OF_REQUEST, **OF_PART}
