"""A value that fits a JSON schema: for tool arguments and structured outputs. It honours structure, not
``pattern``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tollway.simulator.tokens import prose

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Schema = Mapping[str, object]

DEEP = 6
"""From this depth on only what is required is filled in, so that recursive schemas end."""

TOO_DEEP = 40

FORMATS: Mapping[str, str] = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "duration": "P1D",
    "email": "fox@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance(schema: object) -> Json:
    """The smallest telling value of the schema. Raises ValueError where a schema has no end or a reference no
    target."""
    if not isinstance(schema, Mapping):
        return {}
    return _value(schema, schema, 0)


def _value(schema: object, root: Schema, depth: int) -> Json:
    if depth > TOO_DEEP:
        raise ValueError("the schema requires itself without end")
    if not isinstance(schema, Mapping):
        return True
    if "$ref" in schema:
        return _value(_target(str(schema["$ref"]), root), root, depth + 1)
    if "const" in schema:
        return _plain(schema["const"])
    choices = schema.get("enum")
    if isinstance(choices, Sequence) and choices:
        return _plain(choices[0])
    for word in ("anyOf", "oneOf"):
        options = schema.get(word)
        if isinstance(options, Sequence) and options:
            return _value(_option(options, depth), root, depth + 1)
    parts = schema.get("allOf")
    if isinstance(parts, Sequence) and parts:
        return _value(_merged(schema, parts, root), root, depth + 1)
    return _typed(schema, root, depth)


def _typed(schema: Schema, root: Schema, depth: int) -> Json:
    kind = schema.get("type")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = "null" if depth >= DEEP and "null" in kind else next((k for k in kind if k != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    match kind:
        case "object":
            return _object(schema, root, depth)
        case "array":
            return _array(schema, root, depth)
        case "integer":
            return int(_number(schema, whole=True))
        case "number":
            return _number(schema, whole=False)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(schema)


def _object(schema: Schema, root: Schema, depth: int) -> dict[str, Json]:
    properties = schema.get("properties")
    required = schema.get("required")
    names = [str(name) for name in required] if isinstance(required, Sequence) else []
    fields: dict[str, Json] = {}
    if isinstance(properties, Mapping):
        for name, inner in properties.items():
            if depth < DEEP or name in names:
                fields[str(name)] = _value(inner, root, depth + 1)
    for name in names:
        fields.setdefault(name, "cat")
    return fields


def _array(schema: Schema, root: Schema, depth: int) -> list[Json]:
    least = schema.get("minItems")
    number = least if isinstance(least, int) else 0 if depth >= DEEP else 1
    prefix = schema.get("prefixItems")
    items: list[Json] = []
    if isinstance(prefix, Sequence):
        items = [_value(inner, root, depth + 1) for inner in prefix]
    most = schema.get("maxItems")
    if isinstance(most, int):
        number = min(number, most)
    while len(items) < number:
        items.append(_value(schema.get("items", {}), root, depth + 1))
    return items


def _number(schema: Schema, whole: bool) -> float:
    def bound(name: str) -> float | None:
        value = schema.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    step = bound("multipleOf") or (1 if whole else 0.5)
    above, below = bound("exclusiveMinimum"), bound("exclusiveMaximum")
    low, high = bound("minimum"), bound("maximum")
    if above is not None and (low is None or above >= low):
        low = above + step
    if below is not None and (high is None or below <= high):
        high = below - step
    value: float = 7 if whole else 1.5
    if low is not None and value < low:
        value = low
    if high is not None and value > high:
        value = high
    if bound("multipleOf"):
        value = -(-value // step) * step
        if high is not None and value > high:
            value -= step
    return value


def _string(schema: Schema) -> str:
    named = schema.get("format")
    text = FORMATS.get(named, "the old cat") if isinstance(named, str) else "the old cat"
    least, most = schema.get("minLength"), schema.get("maxLength")
    if isinstance(least, int) and len(text) < least:
        text = prose(least)[:least]
    if isinstance(most, int):
        text = text[:most]
    return text


def _option(options: Sequence[object], depth: int) -> object:
    nulls = [option for option in options if isinstance(option, Mapping) and option.get("type") == "null"]
    if depth >= DEEP and nulls:
        return nulls[0]
    return next((option for option in options if option not in nulls), options[0])


def _merged(schema: Schema, parts: Sequence[object], root: Schema) -> Schema:
    merged: dict[str, object] = {key: value for key, value in schema.items() if key != "allOf"}
    for part in parts:
        if isinstance(part, Mapping) and "$ref" in part:
            part = _target(str(part["$ref"]), root)
        if not isinstance(part, Mapping):
            continue
        for key, value in part.items():
            held = merged.get(key)
            if isinstance(held, Mapping) and isinstance(value, Mapping):
                merged[key] = {**held, **value}
            elif key == "required" and isinstance(held, list) and isinstance(value, list):
                merged[key] = [*held, *value]
            else:
                merged[key] = value
    return merged


def _target(reference: str, root: Schema) -> object:
    if not reference.startswith("#"):
        raise ValueError(f"the reference {reference!r} leads outside the schema")
    found: object = root
    for step in reference[1:].split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or step not in found:
            raise ValueError(f"the reference {reference!r} has no target")
        found = found[step]
    return found


def _plain(value: object) -> Json:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [_plain(inner) for inner in value]
    raise ValueError("the schema holds a value that JSON does not know")
