"""Version numbers of prompts in the data folder."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from promptreel.tables.prompt_versions import register_version, versions_of
from promptreel.tables.storage import open_storage
from tests.prompts import NESTED


def changed(number):
    return replace(NESTED, prompt_text=f"Describe the segment, please, variant {number}.")


def test_new_content_of_a_name_gets_the_next_number(tmp_path):
    storage = open_storage(tmp_path)
    other = replace(NESTED, name="another name")
    assert [register_version(storage, prompt) for prompt in (NESTED, changed(1), NESTED, other, changed(2))] == [
        1, 2, 1, 1, 3,
    ]  # fmt: skip
    assert [(entry.version, entry.content_id) for entry in versions_of(storage, NESTED.name)] == [
        (1, NESTED.prompt_id), (2, changed(1).prompt_id), (3, changed(2).prompt_id),
    ]  # fmt: skip


def test_processes_at_once_never_share_a_number(tmp_path):
    storage = open_storage(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda n: register_version(storage, changed(n % 6)), range(24)))
    assert sorted(set(numbers)) == [1, 2, 3, 4, 5, 6]
    assert all(len({numbers[at] for at in range(24) if at % 6 == content}) == 1 for content in range(6))


def test_unreadable_version_keeps_its_number_taken(tmp_path):
    storage = open_storage(tmp_path)
    register_version(storage, NESTED)
    (file,) = (tmp_path / "prompts").rglob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("{")
    assert register_version(storage, changed(1)) == 2
