"""Google's schemas as JSON Schema."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.formats.gemini_generate.schema import to_json_schema


def converted(schema: Any) -> Any:
    return msgspec.json.decode(to_json_schema(Raw(json.dumps(schema).encode()), "parameters"))


@pytest.mark.parametrize(
    ("google", "standard"),
    [
        ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "STRING", "format": "enum", "enum": ["a"]}, {"type": "string", "enum": ["a"]}),
        (
            {"type": "STRING", "enum": ["a"], "nullable": True},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        ({"type": "INTEGER", "nullable": False}, {"type": "integer"}),
        ({"type": "TYPE_UNSPECIFIED"}, {}),
        ({"type": "NULL"}, {"type": "null"}),
        (
            {"type": "ARRAY", "items": {"type": "NUMBER"}, "maxItems": "5"},
            {"type": "array", "items": {"type": "number"}, "maxItems": 5},
        ),
        ({"type": "ARRAY", "min_items": 1}, {"type": "array", "minItems": 1}),
        (
            {"any_of": [{"type": "STRING"}, {"type": "BOOLEAN"}]},
            {"anyOf": [{"type": "string"}, {"type": "boolean"}]},
        ),
        (
            {"anyOf": [{"type": "STRING"}], "nullable": True},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        ({"type": "STRING", "example": "x"}, {"type": "string", "examples": ["x"]}),
        (
            {"defs": {"A": {"type": "STRING"}}, "ref": "#/defs/A"},
            {"$defs": {"A": {"type": "string"}}, "$ref": "#/$defs/A"},
        ),
        (
            {"type": "object", "additionalProperties": False},
            {"type": "object", "additionalProperties": False},
        ),
        ({"type": ["STRING", "NULL"]}, {"type": ["string", "null"]}),
    ],
)
def test_converted(google: Any, standard: Any) -> None:
    assert converted(google) == standard


def test_properties_called_like_keywords_are_properties() -> None:
    google = {
        "type": "OBJECT",
        "properties": {
            "type": {"type": "STRING"},
            "nullable": {"type": "BOOLEAN"},
            "any_of": {"type": "STRING"},
        },
    }
    assert converted(google) == {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "nullable": {"type": "boolean"},
            "any_of": {"type": "string"},
        },
    }


def test_the_order_of_properties_is_kept() -> None:
    google = {
        "type": "OBJECT",
        "properties": {"a": {}, "b": {}, "c": {}},
        "propertyOrdering": ["c", "a", "gone"],
    }
    found = converted(google)
    assert list(found["properties"]) == ["c", "a", "b"]
    assert "propertyOrdering" not in found


def test_what_is_no_schema_is_named() -> None:
    with pytest.raises(BadRequest) as refused:
        converted([])
    assert refused.value.param == "parameters"
