"""Google's ``Schema`` (a part of OpenAPI 3.0, types in upper case) turned into JSON Schema. The way back is not
needed: what we write goes into the fields that take JSON Schema as it is.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_SPELLINGS = {
    "any_of": "anyOf",
    "max_items": "maxItems",
    "min_items": "minItems",
    "max_length": "maxLength",
    "min_length": "minLength",
    "max_properties": "maxProperties",
    "min_properties": "minProperties",
    "additional_properties": "additionalProperties",
    "property_ordering": "propertyOrdering",
    "defs": "$defs",
    "ref": "$ref",
}
_COUNTS = frozenset(("maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties"))
_MAPS = frozenset(("properties", "$defs"))


def to_json_schema(raw: Raw, param: str) -> Raw:
    """The JSON Schema that ``raw`` means. Raises BadRequest naming ``param``."""
    try:
        value = _decode(raw)
        if not isinstance(value, dict):
            raise BadRequest(f"'{param}' must be a schema object.", param=param)
        return Raw(_encode(_converted(value)))
    except RecursionError:
        raise BadRequest(f"'{param}' is nested too deeply.", param=param) from None
    except msgspec.DecodeError:
        raise BadRequest(f"'{param}' is not valid JSON.", param=param) from None


def _inner(value: object) -> object:
    return _converted(value) if isinstance(value, dict) else value


def _converted(schema: dict[str, object]) -> dict[str, object]:
    told: dict[str, object] = {}
    for spelled, value in schema.items():
        name = _SPELLINGS.get(spelled, spelled)
        if name == "type":
            value = _type(value)
            if value is None:
                continue
        elif name in _MAPS and isinstance(value, dict):
            value = {key: _inner(each) for key, each in value.items()}
        elif name in ("items", "additionalProperties"):
            value = _inner(value)
        elif name == "anyOf" and isinstance(value, list):
            value = [_inner(each) for each in value]
        elif name in _COUNTS and isinstance(value, str) and value.isdecimal():
            value = int(value)  # 64-bit numbers are strings in Google's JSON
        elif name == "$ref" and isinstance(value, str):
            value = value.replace("#/defs/", "#/$defs/", 1)
        elif name == "example":
            name, value = "examples", [value]
        elif name == "format" and value == "enum":
            continue
        told[name] = value
    _order(told)
    if told.pop("nullable", False) is True:
        _allow_null(told)
    return told


def _type(value: object) -> object:
    if isinstance(value, list):
        return [_type(each) for each in value]
    if not isinstance(value, str):
        return value
    return None if value == "TYPE_UNSPECIFIED" else value.lower()


def _order(schema: dict[str, object]) -> None:
    """``propertyOrdering`` is no word of JSON Schema: the properties are put into that order instead."""
    order = schema.get("propertyOrdering")
    properties = schema.get("properties")
    if not isinstance(order, list) or not isinstance(properties, dict):
        return
    del schema["propertyOrdering"]
    first = {name: properties[name] for name in order if name in properties}
    schema["properties"] = {**first, **properties}


def _allow_null(schema: dict[str, object]) -> None:
    kind = schema.get("type")
    if isinstance(kind, str) and kind != "null":
        schema["type"] = [kind, "null"]
    choices = schema.get("enum")
    if isinstance(choices, list) and None not in choices:
        schema["enum"] = [*choices, None]
    options = schema.get("anyOf")
    if isinstance(options, list) and {"type": "null"} not in options:
        schema["anyOf"] = [*options, {"type": "null"}]
