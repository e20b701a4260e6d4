"""Filter conditions as SQL over committed tables, compared with a plain Python implementation."""

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptreel.api.db.models import RunRecord
from promptreel.api.runs.run_tables import run_tables
from promptreel.api.search import filter_engine
from promptreel.api.search.filter_engine import FilterEngine, ScopedRun
from promptreel.api.search.filter_sql import (
    FilterMismatch,
    compile_filter,
    filter_fields,
    find_field,
)
from promptreel.schemas.prompt import prompt_from_dict
from promptreel.schemas.wire.filter import FilterSearch
from promptreel.tables.storage import open_storage
from tests.naive_filter import holds
from tests.prompts import NESTED
from tests.synthetic_runs import make_run

# Words that collide often, and words that could break SQL, patterns or case mapping.
WORDS = ["dock", "Dock", "a dock", "crane", "", "  ", "100%", "a_b", "o'neil", '"x"', "\\S", "$operand0", "ÄRGER", "ärger",
         "ΑΣ", "ß", "日本", "a\nb", "e0", "--"]  # fmt: skip
words = st.sampled_from(WORDS)
numbers = st.sampled_from([-1, 0, 1, 2, 3, 2**53, 2**62])
floats = st.sampled_from([-0.5, 0.0, 1.0, 1.5, 2.0, 1e300])


def maybe(strategy):
    return st.none() | strategy


answers = st.fixed_dictionaries(
    {},
    optional={
        "summary": maybe(words),
        "scene": maybe(
            st.fixed_dictionaries(
                {}, optional={"location": maybe(words), "people_count": maybe(numbers), "bright": maybe(st.booleans())}
            )
        ),
        "products": maybe(
            st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={"name": maybe(words), "price": maybe(floats), "tags": maybe(st.lists(words, max_size=3))},
                ),
                max_size=3,
            )
        ),
        "keywords": maybe(st.lists(words, max_size=3)),
        "start_time": maybe(floats),
        "extra": maybe(st.sampled_from([{}, {"a": 1}, {"dock": [1]}, "dock", 3, True])),
    },
)
texts = st.sampled_from([word for word in WORDS if word.strip()])


def condition(fields, kind, operators, values=None):
    parts = {"field": st.sampled_from(fields), "type": st.just(kind), "operator": st.sampled_from(operators)}
    return st.fixed_dictionaries({**parts, **({"value": values} if values is not None else {})})


TEXT_FIELDS = ["summary", "scene.location", "products[].name", "products[].tags", "keywords", "keywords[]", "extra"]
COMPARISONS = ["equals", "greater_than", "greater_equal", "less_than", "less_equal"]
LISTS = ["keywords", "keywords[]", "products[].tags", "products[].tags[]", "products"]
conditions = st.one_of(
    condition(TEXT_FIELDS, "string", ["equals", "contains", "starts_with", "ends_with"], texts),
    condition(TEXT_FIELDS, "string", ["is_empty", "is_not_empty"]),
    condition(["scene.people_count"], "integer", COMPARISONS, numbers),
    condition(["scene.people_count", "products[].price", "start_time"], "number", COMPARISONS, floats),
    condition(["products[].price", "start_time"], "integer", COMPARISONS, st.sampled_from([0, 1, 2])),
    condition(["scene.bright"], "boolean", ["equals"], st.booleans()),
    condition(LISTS, "array", ["is_empty", "is_not_empty"]),
    condition(LISTS, "array", ["length_equals", "length_greater", "length_less"], st.integers(0, 3)),
    condition(LISTS[:-1], "array", ["item_equals", "item_contains"], texts),
)
nodes = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def engine():
    engine = FilterEngine()
    yield engine
    engine.close()


def scoped_run(storage, run_id, prompt=NESTED, items=None):
    run = RunRecord(run_id=run_id, prompt=prompt.to_dict())
    return ScopedRun(run, run_tables(storage, run_id), items)


def segments_of(engine, scoped, criteria, after=None, limit=10_000):
    body = FilterSearch.model_validate({"groups": [criteria]})
    return engine.find(scoped, body.groups, after, limit)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(documents=st.lists(answers, min_size=1, max_size=12), criteria=st.lists(nodes, min_size=6, max_size=6))
def test_sql_agrees_with_plain_python(tmp_path_factory, engine, documents, criteria):
    storage = open_storage(tmp_path_factory.mktemp("d"))
    scoped = scoped_run(storage, make_run(storage, {"v": documents}))
    for node in criteria:
        found = [hit.segment_id for hit in segments_of(engine, scoped, node)]
        assert found == [f"seg_v_a_{at}" for at, answer in enumerate(documents) if holds(node, answer)], node


def test_values_are_not_interpreted_as_sql_or_pattern(tmp_path, engine):
    storage = open_storage(tmp_path)
    hostile = ["100%", "1000", "a_b", "axb", "') OR true --", "\\", "'", "a\0b", "a" * 5000, "$operand0", "[ab]*"]
    scoped = scoped_run(storage, make_run(storage, {"v": [{"summary": word} for word in hostile]}))
    for operator in ("equals", "contains", "starts_with", "ends_with"):
        for at, word in enumerate(hostile):
            criteria = {"field": "summary", "type": "string", "operator": operator, "value": word}
            found = [hit.segment_id for hit in segments_of(engine, scoped, criteria)]
            assert found == [f"seg_v_a_{n}" for n, text in enumerate(hostile) if holds(criteria, {"summary": text})]
            assert f"seg_v_a_{at}" in found


def test_field_names_are_quoted(tmp_path, engine):
    names = ['a"b', "select", "e0", "with space", "$operand0", "fields", "naïve", "x;y"]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    prompt = prompt_from_dict({"name": "odd", "prompt_text": "Say what is seen.", "json_schema": schema})
    storage = open_storage(tmp_path)
    scoped = scoped_run(storage, make_run(storage, {"v": [{name: name} for name in names]}, prompt), prompt)
    for at, name in enumerate(names):
        criteria = {"field": name, "type": "string", "operator": "is_not_empty"}
        assert [hit.segment_id for hit in segments_of(engine, scoped, criteria)] == [f"seg_v_a_{at}"]


def test_names_that_differ_only_in_case_are_separate_fields(tmp_path, engine):
    inner = {"type": "object", "properties": {"Tag": {"type": "string"}, "tag": {"type": "string"}}}
    schema = {"type": "object", "properties": {"Name": {"type": "string"}, "name": {"type": "integer"}, "parts": inner,
              "Parts": {"type": "array", "items": inner}}}  # fmt: skip
    prompt = prompt_from_dict({"name": "cases", "prompt_text": "Say what is seen.", "json_schema": schema})
    documents = [
        {"Name": "a"},
        {"name": 1},
        {"parts": {"tag": "a"}},
        {"parts": {"Tag": "a"}},
        {"Parts": [{"tag": "a"}]},
    ]
    storage = open_storage(tmp_path)
    scoped = scoped_run(storage, make_run(storage, {"v": documents}, prompt), prompt)
    for at, field in enumerate(["Name", "name", "parts.tag", "parts.Tag", "Parts[].tag"]):
        kind, value = ("integer", 1) if field == "name" else ("string", "a")
        criteria = {"field": field, "type": kind, "operator": "equals", "value": value}
        assert [hit.segment_id for hit in segments_of(engine, scoped, criteria)] == [f"seg_v_a_{at}"], field


@pytest.mark.parametrize("limit", [1, 3, 50, 51])
def test_conditions_of_every_type_fill_pages_of_any_size(tmp_path, engine, limit):
    kinds = {"seconds": "number", "count": "integer", "bright": "boolean", "word": "string"}
    scene = {"type": "object", "properties": {name: {"type": kind} for name, kind in kinds.items()}}
    schema = {**scene, "properties": {**scene["properties"], "scene": scene}}
    prompt = prompt_from_dict({"name": "flat", "prompt_text": "Say what is seen.", "json_schema": schema})
    inner = [{"seconds": float(n), "count": n, "bright": n >= 5, "word": "ab"[n >= 5]} for n in range(60)]
    storage = open_storage(tmp_path)
    scoped = scoped_run(storage, make_run(storage, {"v": [{**part, "scene": part} for part in inner]}, prompt), prompt)
    values = {"seconds": 5.0, "count": 5, "bright": True, "word": "b"}
    for name, kind in kinds.items():
        operator = "greater_equal" if kind in ("number", "integer") else "equals"
        for field in (name, f"scene.{name}"):
            criteria = {"field": field, "type": kind, "operator": operator, "value": values[name]}
            hits = [hit.segment_id for hit in segments_of(engine, scoped, criteria, limit=limit)]
            assert hits == [f"seg_v_a_{n}" for n in range(5, 60)][:limit], field


def test_broken_database_is_replaced(tmp_path, monkeypatch):
    storage = open_storage(tmp_path)
    scoped = scoped_run(storage, make_run(storage, {"v": [{"summary": "a"}]}))
    criteria = {"field": "summary", "type": "string", "operator": "equals", "value": "a"}
    broken = FilterEngine()
    before = broken._connection

    def fail(*arguments):
        before.close()  # like a database that accepts no more queries
        raise duckdb.FatalException("FATAL Error: database has been invalidated")

    with monkeypatch.context() as patch:
        patch.setattr(filter_engine, "compile_filter", fail)
        with pytest.raises(duckdb.FatalException):
            segments_of(broken, scoped, criteria)
    assert len(segments_of(broken, scoped, criteria)) == 1
    broken.close()


def test_transcripts_and_metadata_text_are_filtered_like_fields(tmp_path, engine):
    storage = open_storage(tmp_path)
    spoken = {"seg_v_a_0": "The crane lifts", "seg_v_a_2": " "}
    answers = {"v": [{"summary": "a"}, {"summary": "b"}, {"summary": "c"}]}
    scoped = scoped_run(storage, make_run(storage, answers, spoken=spoken))
    silent = scoped_run(storage, make_run(storage, answers))

    def found(scoped, field, operator, **value):
        criteria = {"field": field, "type": "string", "operator": operator, **value}
        return [hit.segment_id[-1] for hit in segments_of(engine, scoped, criteria)]

    assert found(scoped, "transcription", "contains", value="CRANE") == ["0"]
    assert found(scoped, "transcription", "is_empty") == ["1", "2"]
    assert found(silent, "transcription", "is_empty") == ["0", "1", "2"]
    assert found(silent, "transcription", "contains", value="crane") == []
    assert found(scoped, "metadata_text", "equals", value="summary: b") == ["1"]


def test_numbers_near_64_bit_limits_compare_exactly(tmp_path, engine):
    storage = open_storage(tmp_path)
    counts = [2**63 - 1, 2**63 - 2, 2**53 + 1, 2**53, -(2**63)]
    scoped = scoped_run(storage, make_run(storage, {"v": [{"scene": {"people_count": n}} for n in counts]}))
    for operator in COMPARISONS:
        for value in counts:
            criteria = {"field": "scene.people_count", "type": "integer", "operator": operator, "value": value}
            expected = [n for n, count in enumerate(counts) if holds(criteria, {"scene": {"people_count": count}})]
            assert [int(hit.segment_id[-1]) for hit in segments_of(engine, scoped, criteria)] == expected


def test_pages_across_part_files_have_no_gap_or_overlap(tmp_path, engine):
    storage = open_storage(tmp_path)
    answers = {f"v{video}": [{"scene": {"people_count": n % 3}} for n in range(30)] for video in range(40)}
    run_id = make_run(storage, answers, shards=5)
    scoped = scoped_run(storage, run_id)
    criteria = {"field": "scene.people_count", "type": "integer", "operator": "equals", "value": 1}
    all_hits = [hit.segment_id for hit in segments_of(engine, scoped, criteria)]
    paged, after = [], None
    while page := segments_of(engine, scoped, criteria, after, 7):
        paged += [hit.segment_id for hit in page]
        after = page[-1].position
        assert len(paged) <= len(all_hits)
    assert paged == all_hits
    assert sorted(all_hits) == sorted(f"seg_{video}_a_{n}" for video in answers for n in range(30) if n % 3 == 1)
    # Hits are in file order.
    rows = [
        row
        for part in scoped.tables.manifest.parts_of("results")
        for row in pq.read_table(storage.local_file(f"runs/{run_id}/{part.file}"))["segment_id"].to_pylist()
    ]
    assert [row for row in rows if row in set(all_hits)] == all_hits
    some = scoped_run(storage, run_id, items=frozenset({"v3", "v17"}))
    assert {hit.video_id for hit in segments_of(engine, some, criteria)} == {"v3", "v17"}


def test_unknown_fields_and_wrong_types_are_reported():
    fields = filter_fields(NESTED)

    def problem(**criteria):
        body = FilterSearch.model_validate({"conditions": [criteria]})
        with pytest.raises(FilterMismatch) as caught:
            compile_filter(body.conditions, fields)
        return str(caught.value)

    equals = {"type": "string", "operator": "equals", "value": "x"}
    unknown = problem(field="scene.place", **equals)
    for path in ("scene.location", "products[].name", "products[].tags", "keywords", "transcription", "metadata_text"):
        assert path in unknown
    for field in ("products.name", "scene", "scene.location[]", "products[]", "[]", "summary.x", "SUMMARY"):
        if field != "products[]":
            assert "unknown field" in problem(field=field, **equals)
    assert "has type string" in problem(field="summary", type="integer", operator="equals", value=1)
    assert "has type integer" in problem(field="scene.people_count", **equals)
    assert "has type boolean" in problem(field="scene.bright", **equals)
    assert "is not an array" in problem(field="summary", type="array", operator="is_empty")
    assert "is not an array" in problem(field="products[].name", type="array", operator="length_equals", value=1)
    assert "an array of objects" in problem(field="products", **equals)
    assert "are not number" in problem(field="keywords", type="array", operator="item_equals", value=1)
    assert "are not boolean" in problem(field="keywords", type="array", operator="item_equals", value=True)
    assert find_field(fields, "keywords[]") is find_field(fields, "keywords")
