"""Helpers of the tests that reuse fields: prompts with some fields, and a service whose answers all differ."""

import copy
import json
from dataclasses import replace

from promptreel.pipelines.runner import execute_run
from promptreel.schemas.prompt import prompt_from_dict
from tests.fake_gemini import FakeGemini
from tests.fake_gemini.answers import answer_for
from tests.pipeline_runs import check_counts, create_run, run_media
from tests.pipelines.conftest import frame_settings

SECONDS = 3
TEXT = {"type": "string"}
SEEN = {"type": "number", "format": "media-time", "minimum": 0, "maximum": 1}
PERSON = {"type": "object", "properties": {"name": TEXT, "home": {"$ref": "#/$defs/place"}}, "required": ["name"]}
DEFS = {"person": PERSON, "place": {"type": "object", "properties": {"town": TEXT}, "required": ["town"]}}
FIELDS = {"mood": TEXT, "seen": SEEN, "who": {"$ref": "#/$defs/person"}}


class Service(FakeGemini):
    """A service whose answers all differ, with the fields of each request in order."""

    def __init__(self, **options):
        self.requested, self.schemas = [], []
        super().__init__(answer=self._answer_differently, **options)

    def _answer_differently(self, body, schema):
        if schema is None:  # the question for the version that answers
            return "ok"
        self.requested.append(set(schema["properties"]))
        self.schemas.append(schema)
        return answer_for(schema, f"answer {len(self.requested)}")

    def take(self):
        """Return the fields of the requests since the last call."""
        requested, self.requested = self.requested, []
        return requested


def prompt_of(*names, fields=FIELDS, defs=DEFS, text="Describe the segment.", required=None, **more):
    properties = {name: fields[name] for name in names}
    required = list(names) if required is None else required
    schema = {"type": "object", "properties": properties, "required": required, "$defs": defs, **more}
    return prompt_from_dict({"name": "reused", "prompt_text": text, "json_schema": copy.deepcopy(schema)})


def run(service, data, film, prompt, owner=None, **changes):
    """Execute a run; return its results by segment."""
    settings = replace(frame_settings(service), **changes)
    if owner is None:
        run_id = run_media(data, film, settings, prompt)
    else:
        run_id = create_run_of(owner, data, film, settings, prompt)
        execute_run(str(data), run_id)
    return results_of(data, run_id)


def create_run_of(owner, data, film, settings, prompt):
    """Create a run of an account of the service."""
    run_id = create_run(data, film, settings, prompt)
    path = data / "runs" / run_id / "request.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "owner": owner}))
    return run_id


def results_of(data, run_id):
    rows = check_counts(data, run_id)
    assert rows["failures"] == []
    return {row["start_us"]: {**row, "metadata": json.loads(row["metadata"])} for row in rows["results"]}


def values_of(results, *names):
    return {start: {name: row["metadata"][name] for name in names} for start, row in results.items()}


def sources_of(results):
    """Return the fields and runs that results were merged from."""
    return [
        [(source["fields"], source["run_id"]) for source in json.loads(row["merged_from"])] for row in results.values()
    ]


def run_of(results):
    return next(iter(results.values()))["run_id"]
