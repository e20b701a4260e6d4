"""A Hypothesis strategy of schemas as people bring them, with answers and what a table must hold of these.

The expected columns and times follow from how a case is built, not from reading its schema.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "at", "Name", "name", "type", "items", "nullable", "x y", "é", "const")
WORDS = ("dusk", "pier", "00:03", "é", "3.5s", "STRING", "null", "12")
MAX_DEPTH = 4
SCALARS = ("string", "integer", "number", "boolean")
# A column: the name of a scalar type, "json", ("array", column) or ("object", {name: column}).
Column = Any
# A value as the model writes it, and as it is stored.
Pair = tuple[Any, Any]


@dataclass(frozen=True)
class Part:
    """A subschema, its column, and a function that draws a value of it."""

    schema: dict[str, Any]
    column: Column
    pair: Callable[[], Pair]


@dataclass(frozen=True)
class Case:
    """A schema, an answer, and what is stored of it."""

    schema: dict[str, Any]
    columns: dict[str, Column]
    written: dict[str, Any]
    stored: dict[str, Any]
    start_ms: int


@st.composite
def cases(draw: Any) -> Case:
    """Draw a case whose root is an object of up to four fields."""
    build = _Builder(draw)
    names = build.names(1, 4)
    parts = {name: build.part(0) for name in names}
    root = build.object_of(parts, required=[name for name in names if draw(st.booleans())])
    written, stored = root.pair()
    schema = root.schema
    if draw(st.integers(0, 4)) == 0:
        build.definitions["Root"] = schema
        schema = build.reference("Root")
    if build.definitions:
        schema = {**schema, build.keyword: build.definitions}
    return Case(schema, root.column[1], written, stored, build.start_ms)


@dataclass
class _Builder:
    draw: Any
    definitions: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keyword = self.pick("$defs", "definitions")
        self.in_capitals = self.draw(st.booleans())
        self.start_ms = self.draw(st.integers(0, 10_000_000))

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def names(self, low: int, high: int) -> list[str]:
        return self.draw(st.lists(st.sampled_from(NAMES), min_size=low, max_size=high, unique=True))

    def typed(self, name: str, **keywords: Any) -> dict[str, Any]:
        return {"type": name.upper() if self.in_capitals else name, **keywords}

    def part(self, depth: int) -> Part:
        scalars = [self.scalar, self.time, self.literal, self.union, self.literals, self.times, self.anything]
        nested = [self.array, self.array, self.object, self.object, self.tuple_, self.dictionary, self.dictionary_and_fields,
                  self.variants, self.merged]  # fmt: skip
        choices = scalars if depth >= MAX_DEPTH else [*scalars, *nested, *nested]
        part = self.pick(*choices)(depth)
        wrappers = [self.same, self.same, self.nullable, self.referred, self.in_definitions]
        return self.pick(*wrappers)(part)

    # Scalars

    def scalar(self, depth: int) -> Part:
        name = self.pick(*SCALARS)
        return Part(self.typed(name), name, lambda: self.same_twice(self.value_of(name)))

    def value_of(self, name: str) -> Any:
        values = {
            "string": st.sampled_from(WORDS),
            "integer": st.integers(-(2**40), 2**40),
            "number": st.integers(-(10**6), 10**6).map(lambda number: number / 8),
            "boolean": st.booleans(),
        }
        return self.draw(values[name])

    @staticmethod
    def same_twice(value: Any) -> Pair:
        return value, value

    def time(self, depth: int) -> Part:
        name = self.pick("number", "integer")
        return Part(self.typed(name, format="media-time"), "number", lambda: self.time_pair(name == "integer"))

    def time_pair(self, whole: bool = False) -> Pair:
        time_ms = self.draw(st.integers(0, 5_000)) * (1000 if whole else 1)
        stored = (self.start_ms + time_ms) / 1000
        minutes, rest = divmod(time_ms, 60_000)
        shown = f"{rest // 1000:02d}" + (f".{rest % 1000:03d}" if rest % 1000 else "")
        number = time_ms // 1000 if time_ms % 1000 == 0 else time_ms / 1000
        clock, long_clock = f"{minutes:02d}:{shown}", f"{minutes // 60}:{minutes % 60:02d}:{shown}"
        return self.pick(number, number, clock, long_clock, f"{number}s"), stored

    def literal(self, depth: int) -> Part:
        column, values = self.pick(
            ("string", ["x"]), ("integer", [3]), ("boolean", [True]), ("number", [0.5]), ("json", [{"type": "STRING"}]),
            ("integer", [1, 2]), ("boolean", [True, False]), ("number", [1, 1.5]), ("json", [1, "x"]),
            ("string", ["x", "y"]),
        )  # fmt: skip
        schema = {"const": values[0]} if len(values) == 1 else {"enum": values}
        if column in SCALARS and self.draw(st.booleans()):
            schema = self.typed(column, **schema)
        return Part(schema, column, lambda: self.same_twice(self.pick(*values)))

    def anything(self, depth: int) -> Part:
        schema = self.pick({}, self.typed("object"), self.typed("array"), {"description": "what is seen"})
        name = str(schema.get("type", "")).lower()
        values = {"object": [{}, {"x": [1, {"y": "dusk"}]}], "array": [[], ["pier", 2, ["é"]]]}
        return Part(
            schema, "json", lambda: self.same_twice(self.pick(*values.get(name, [1, "dusk", {"x": 0.5}, [True]])))
        )

    # Unions

    def union(self, depth: int) -> Part:
        """Scalars of several types; a text of the union stays a text, also where it looks like a time."""
        names = list(
            self.draw(st.sampled_from([("integer", "string"), ("boolean", "string", "number"), ("time", "string")]))
        )
        if "time" not in names and self.draw(st.booleans()):
            schema: dict[str, Any] = {"type": [self.typed(name)["type"] for name in names]}
        else:
            branches = [
                self.typed("number", format="media-time") if name == "time" else self.typed(name) for name in names
            ]
            schema = {self.pick("anyOf", "oneOf"): branches}

        def pair() -> Pair:
            name = self.pick(*names)
            if name != "time":
                return self.same_twice(self.value_of(name))
            time_ms = self.draw(st.integers(0, 9_999))
            return time_ms / 1000, (self.start_ms + time_ms) / 1000

        return Part(schema, "json", pair)

    def literals(self, depth: int) -> Part:
        schema = {"anyOf": [{"const": "x"}, {"enum": ["y", "z"]}]}
        return Part(schema, "string", lambda: self.same_twice(self.pick("x", "y", "z")))

    def times(self, depth: int) -> Part:
        """A number that one branch calls a time and another a number is a time."""
        branches = [self.typed(self.pick("number", "integer")), self.typed("number", format="media-time")]
        schema = {"anyOf": self.draw(st.permutations(branches))}
        return Part(schema, "number", self.time_pair)

    def variants(self, depth: int) -> Part:
        """A discriminated union of objects."""
        kinds = ["x", "y", "z"][: self.draw(st.integers(2, 3))]
        branches = {kind: self.object(depth, without="kind") for kind in kinds}
        schemas = [
            {
                **branch.schema,
                "properties": {"kind": {"const": kind}, **branch.schema["properties"]},
                "required": ["kind", *branch.schema.get("required", [])],
            }
            for kind, branch in branches.items()
        ]

        def pair() -> Pair:
            kind = self.pick(*kinds)
            written, stored = branches[kind].pair()
            return {"kind": kind, **written}, {"kind": kind, **stored}

        schema = {self.pick("anyOf", "oneOf"): schemas}
        if self.draw(st.booleans()):
            schema["discriminator"] = {"propertyName": "kind"}
        if self.draw(st.booleans()):
            schema |= self.typed("object")
        return Part(schema, "json", pair)

    def merged(self, depth: int) -> Part:
        """An object whose fields come from two schemas."""
        first = self.object(depth)
        others = [name for name in NAMES if name not in first.schema["properties"]][:2]
        second = self.object_of({name: self.part(depth + 1) for name in others})

        def pair() -> Pair:
            (written, stored), (more_written, more_stored) = first.pair(), second.pair()
            return {**written, **more_written}, {**stored, **more_stored}

        schema = self.pick({"allOf": [first.schema, second.schema]}, {**first.schema, "allOf": [second.schema]})
        return Part(schema, "json", pair)

    # Arrays and objects

    def array(self, depth: int) -> Part:
        items = self.part(depth + 1)
        pairs = lambda: _transposed([items.pair() for _ in range(self.draw(st.integers(0, 3)))])  # noqa: E731
        return Part(
            self.typed("array", items=items.schema), "json" if is_free(items.schema) else ("array", items.column), pairs
        )

    def tuple_(self, depth: int) -> Part:
        positions = [self.part(depth + 1) for _ in range(self.draw(st.integers(1, 3)))]
        rest = self.part(depth + 1) if self.draw(st.booleans()) else None
        listed = [position.schema for position in positions]
        if self.draw(st.booleans()):
            schema = self.typed("array", items=listed, additionalItems=rest.schema if rest else False)
        else:
            schema = self.typed("array", prefixItems=listed, items=rest.schema if rest else False)

        def pair() -> Pair:
            count = self.draw(st.integers(0, 2)) if rest is not None else 0
            return _transposed([part.pair() for part in (*positions, *[rest] * count)])

        return Part(schema, "json", pair)

    def dictionary(self, depth: int) -> Part:
        values = self.part(depth + 1)

        def pair() -> Pair:
            return _zipped({name: values.pair() for name in self.names(0, 3)})

        return Part(self.typed("object", additionalProperties=values.schema), "json", pair)

    def dictionary_and_fields(self, depth: int) -> Part:
        fields, rest = self.object(depth), self.part(depth + 1)
        others = [name for name in NAMES if name not in fields.schema["properties"]]
        # A dictionary of anything is an open object: its fields have columns, and its other keys are in `metadata`.
        is_open = is_free(rest.schema)

        def pair() -> Pair:
            written, stored = fields.pair()
            if is_open:
                return written, stored
            more_written, more_stored = _zipped({name: rest.pair() for name in others[: self.draw(st.integers(0, 2))]})
            return {**written, **more_written}, {**stored, **more_stored}

        return Part({**fields.schema, "additionalProperties": rest.schema}, fields.column if is_open else "json", pair)

    def object(self, depth: int, without: str = "") -> Part:
        return self.object_of({name: self.part(depth + 1) for name in self.names(1, 3) if name != without})

    def object_of(self, parts: dict[str, Part], required: list[str] | None = None) -> Part:
        schema = self.typed("object", properties={name: part.schema for name, part in parts.items()})
        if required is None:
            required = [name for name in parts if self.draw(st.booleans())]
        if required:
            schema["required"] = required

        def pair() -> Pair:
            return _zipped({name: parts[name].pair() for name in parts if name in required or self.draw(st.booleans())})

        return Part(schema, ("object", {name: part.column for name, part in parts.items()}), pair)

    # The same part, written in another way

    @staticmethod
    def same(part: Part) -> Part:
        return part

    def nullable(self, part: Part) -> Part:
        schema = part.schema
        forms = [{**schema, "nullable": True}, {"anyOf": [schema, self.typed("null")]}]
        if schema.get("format") == "media-time":  # as pydantic describes `float | None`
            plain = {keyword: value for keyword, value in schema.items() if keyword != "format"}
            forms.append({"anyOf": [plain, {"type": "null"}], "format": "media-time", "default": None})

        def pair() -> Pair:
            return (None, None) if self.draw(st.integers(0, 3)) == 0 else part.pair()

        return Part(self.pick(*forms), part.column, pair)

    def in_definitions(self, part: Part) -> Part:
        name = f"D{len(self.definitions)}"
        self.definitions[name] = part.schema
        return Part(self.reference(name), part.column, part.pair)

    def referred(self, part: Part) -> Part:
        return Part({"allOf": [part.schema], "description": "described"}, part.column, part.pair)

    def reference(self, name: str) -> dict[str, Any]:
        reference = {"$ref": f"#/{self.keyword}/{name}"}
        return self.pick(reference, {**reference, "description": "described"}, {"allOf": [reference]})


def is_free(schema: dict[str, Any]) -> bool:
    """Return whether a schema says nothing at all about its values."""
    return schema in ({}, {"nullable": True})


def _transposed(pairs: list[Pair]) -> Pair:
    return [written for written, _ in pairs], [stored for _, stored in pairs]


def _zipped(pairs: dict[str, Pair]) -> Pair:
    written, stored = _transposed(list(pairs.values()))
    return dict(zip(pairs, written, strict=True)), dict(zip(pairs, stored, strict=True))
