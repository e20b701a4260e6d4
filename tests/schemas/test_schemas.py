"""Ids, media time and Arrow schemas."""

import dataclasses
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreel.schemas import ids
from promptreel.schemas.arrow import arrow_schema, to_table
from promptreel.schemas.errors import MediaError
from promptreel.schemas.field_paths import parse_schema
from promptreel.schemas.mediatime import format_timecode, seconds_from_us, us_from_seconds
from promptreel.schemas.table_rows import SORT_KEYS, TABLES
from promptreel.tables.table_schemas import table_schemas, typed_fields
from tests.prompts import NESTED


@given(st.integers(min_value=0, max_value=10**15))
def test_microseconds_survive_conversion_to_seconds(time_us):
    assert us_from_seconds(seconds_from_us(time_us)) == time_us


@pytest.mark.parametrize(
    ("seconds", "time_us"),
    [
        (0, 0),
        (1.1, 1_100_000),
        ("0.0000005", 0),
        ("0.0000015", 2),
        (Decimal("2.5"), 2_500_000),
        (Fraction(1001, 30000), 33_367),
    ],
)
def test_seconds_are_rounded_half_to_even(seconds, time_us):
    assert us_from_seconds(seconds) == time_us


@pytest.mark.parametrize(("time_us", "text"), [(0, "0:00.00"), (59_999_999, "0:59.99"), (3_600_000_000, "1:00:00.00")])
def test_timecodes_are_truncated_not_rounded(time_us, text):
    assert format_timecode(time_us) == text


def test_digest_ignores_key_order():
    assert ids.digest({"a": 1, "b": [2]}) == ids.digest({"b": [2], "a": 1})
    assert ids.digest({"a": 1}) != ids.digest({"a": "1"})


def test_segment_id_depends_on_item_settings_and_span():
    base = ids.segment_id_of("vid_1", {"strategy": "fixed"}, 0, 10)
    assert base == ids.segment_id_of("vid_1", {"strategy": "fixed"}, 0, 10)
    others = {
        ids.segment_id_of("vid_2", {"strategy": "fixed"}, 0, 10),
        ids.segment_id_of("vid_1", {"strategy": "smart"}, 0, 10),
        ids.segment_id_of("vid_1", {"strategy": "fixed"}, 0, 11),
        ids.segment_id_of("vid_1", {"strategy": "fixed"}, 1, 10),
    }
    assert len(others) == 4
    assert base not in others


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(MediaError, match=r"none\.mp4: cannot be read"):
        ids.hash_file(tmp_path / "none.mp4")


def test_table_schema_includes_its_sort_keys():
    for name, record in TABLES.items():
        schema = arrow_schema(record)
        assert set(SORT_KEYS[name]) <= set(schema.names)
        assert schema.names == [field.name for field in dataclasses.fields(record)]


@dataclasses.dataclass(frozen=True)
class Inner:
    x: float


@dataclasses.dataclass(frozen=True)
class Outer:
    a: int
    b: str | None
    c: tuple[Inner, ...]
    d: bool


def test_record_defines_nullability_and_nesting():
    schema = arrow_schema(Outer)
    assert schema.field("a") == pa.field("a", pa.int64(), nullable=False)
    assert schema.field("b") == pa.field("b", pa.string(), nullable=True)
    assert schema.field("c").type == pa.list_(pa.struct([pa.field("x", pa.float64(), nullable=False)]))
    rows = [{"a": 1, "b": None, "c": [{"x": 0.5}], "d": True}]
    assert to_table(schema, rows).to_pylist() == rows
    with pytest.raises(pa.ArrowInvalid, match="'a' must not be null"):
        to_table(schema, [{"a": None, "b": None, "c": [], "d": True}])


def test_fields_struct_matches_the_prompt():
    kind = table_schemas(NESTED)["results"].field("fields").type
    assert kind.field("scene").type.field("people_count").type == pa.int64()
    assert kind.field("products").type.value_type.field("name").type == pa.string()


def test_values_of_the_wrong_type_become_null():
    node = parse_schema(NESTED.json_schema)
    value = {
        "summary": 5,
        "scene": {"people_count": 2**70, "location": "x", "more": 1},
        "products": "none",
        "extra": {"a": [1]},
    }
    typed = typed_fields(node, value)
    assert typed["summary"] is None
    assert typed["scene"] == {"location": "x", "people_count": None, "bright": None}
    assert typed["products"] is None
    assert typed["extra"] == '{"a":[1]}'
    schema = table_schemas(NESTED)["results"].field("fields").type
    assert pa.array([typed], schema).to_pylist() == [typed]
