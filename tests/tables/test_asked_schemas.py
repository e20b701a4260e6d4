"""Schemas that runs have requested answers for: newest first, each once, on disks and object stores."""

import uuid

import pytest

from promptreel.tables import asked_schemas
from promptreel.tables.asked_schemas import MAX_SCHEMAS, other_asked_schemas, store_asked_schema
from promptreel.tables.layout import asked_schemas_folder
from promptreel.tables.storage import open_storage

KEY = "ab" * 32
OWN = {"type": "object", "properties": {"own": {}}}


def schema(number):
    return {"type": "object", "properties": {f"f{number}": {"type": "string"}}}


@pytest.fixture(params=["disk", "memory"])
def storage(request, tmp_path):
    return open_storage(tmp_path if request.param == "disk" else f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances by a millisecond with every reading."""
    times = iter(range(10**18, 2 * 10**18, 10**6))
    monkeypatch.setattr(asked_schemas.time, "time_ns", lambda: next(times))


def test_other_schemas_are_listed_newest_first(storage, clock):
    for value in (schema(1), OWN, schema(2)):
        store_asked_schema(storage, KEY, value)
    assert other_asked_schemas(storage, KEY, OWN) == [schema(2), schema(1)]
    assert other_asked_schemas(storage, "cd" * 32, OWN) == []


def test_each_schema_is_stored_once(storage, clock):
    for _ in range(3):
        store_asked_schema(storage, KEY, schema(1))
    assert len(storage.list_names(asked_schemas_folder(KEY))) == 1


def test_schema_that_two_writers_stored_is_read_once(storage, clock, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(type(storage), "list_names", lambda self, folder: [])  # neither sees the other's file
        for _ in range(2):
            store_asked_schema(storage, KEY, schema(1))
    assert len(storage.list_names(asked_schemas_folder(KEY))) == 2
    assert other_asked_schemas(storage, KEY, OWN) == [schema(1)]


def test_only_the_newest_schemas_are_read(storage, clock):
    for number in range(MAX_SCHEMAS + 5):
        store_asked_schema(storage, KEY, schema(number))
    found = other_asked_schemas(storage, KEY, OWN)
    assert found == [schema(number) for number in reversed(range(5, MAX_SCHEMAS + 5))]


@pytest.mark.parametrize("content", [b"", b"no JSON", b"[]", b'{"type": "string"}'])
def test_corrupt_files_are_ignored(storage, clock, content):
    store_asked_schema(storage, KEY, schema(1))
    store_asked_schema(storage, KEY, schema(2))
    newest = storage.list_names(asked_schemas_folder(KEY))[-1]
    storage.write_atomic(f"{asked_schemas_folder(KEY)}/{newest}", content)
    assert other_asked_schemas(storage, KEY, OWN) == [schema(1)]
