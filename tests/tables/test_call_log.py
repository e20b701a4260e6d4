"""The call log: interrupted calls, truncated lines, and records of earlier versions."""

import json

from promptreel.tables import layout
from promptreel.tables.call_log import CallLog, read_calls, read_spent
from promptreel.tables.storage import open_storage
from tests.tables.run_tables import RUN, call_row


def test_call_without_end_is_interrupted(storage):
    log = CallLog(storage, RUN, 1, lambda video_id: 0)
    log.begin(call_row(1))
    log.end(call_row(1, status="success"))
    log.begin(call_row(2))
    calls = read_calls(storage, RUN, 0)
    assert {key: value.status for key, value in calls.items()} == {"llm_1": "success", "llm_2": "interrupted"}
    assert read_spent(storage, RUN).tokens == 10


def test_truncated_last_line_loses_only_itself(tmp_path):
    storage = open_storage(tmp_path)
    log = CallLog(storage, RUN, 1, lambda video_id: 3)
    log.begin(call_row(1))
    log.end(call_row(1, status="success"))
    (file,) = (tmp_path / layout.calls_folder(RUN) / "00003").iterdir()
    complete = file.read_bytes()
    file.write_bytes(complete[:-20])
    assert read_calls(storage, RUN, 3)["llm_1"].status == "interrupted"


def test_log_without_model_version_is_read(tmp_path):
    storage = open_storage(tmp_path)
    log = CallLog(storage, RUN, 1, lambda video_id: 0)
    log.end(call_row(1, status="success"))
    (file,) = (tmp_path / layout.calls_folder(RUN) / "00000").iterdir()
    entry = json.loads(file.read_text())
    del entry["call"]["model_version"]
    file.write_text(json.dumps(entry) + "\n")
    found = read_calls(storage, RUN, 0)["llm_1"]
    assert (found.status, found.model_version) == ("success", None)
