import pytest

from tollway.simulator.instances import instance


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"city": {"type": "string"}}}, {"city": "the old cat"}),
        ({"const": 4}, 4),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": ["null", "integer"]}, 7),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, True),
        ({"type": "integer", "minimum": 10}, 10),
        ({"type": "integer", "maximum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 9, "multipleOf": 5}, 15),
        ({"type": "integer", "exclusiveMaximum": 5}, 4),
        ({"type": "number"}, 1.5),
        ({"type": "number", "minimum": 2, "maximum": 3}, 2),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [7, 7, 7]),
        ({"type": "array", "prefixItems": [{"type": "null"}, {"const": 1}], "maxItems": 2}, [None, 1]),
        ({"type": "string", "format": "date"}, "2026-01-02"),
        ({"type": "string", "maxLength": 3}, "the"),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]},
            {"a": 1, "b": 2},
        ),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"const": "y"}}}, "y"),
        ({"type": "object", "required": ["name"]}, {"name": "cat"}),
        ({}, "the old cat"),
    ],
)
def test_values_fit_their_schema(schema, value):
    assert instance(schema) == value


def test_a_minimum_length_is_reached():
    assert len(str(instance({"type": "string", "minLength": 50}))) == 50


def test_recursive_schemas_end():
    schema = {
        "type": "object",
        "properties": {"child": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "name": {"type": "string"}},
        "required": ["child", "name"],
    }
    value, depth = instance(schema), 0
    while value is not None:
        assert isinstance(value, dict)
        assert value["name"] == "the old cat"
        value, depth = value["child"], depth + 1
    assert depth > 1


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"$ref": "#"}, "without end"),
        ({"$ref": "#/nowhere"}, "no target"),
        ({"$ref": "https://example.com/x"}, "outside"),
    ],
)
def test_schemas_that_cannot_be_filled_are_refused(schema, says):
    with pytest.raises(ValueError, match=says):
        instance(schema)
