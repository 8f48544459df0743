"""The OpenAPI 3.1 document of the admin API, made from the actions' declarations and their Structs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

import msgspec
from msgspec import UNSET, Struct, inspect

import tollway
from tollway.admin.action import Action

PREFIX = "/api"
_SCHEMAS = "#/components/schemas/{name}"

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Object: TypeAlias = dict[str, Json]

_REFUSALS = {
    "400": "The request is wrong; `param` names the field.",
    "401": "No valid credential was sent.",
    "403": "The credential has no such permission.",
    "404": "Nothing has this id or name.",
    "409": "The request contradicts what is there.",
    "413": "The body is larger than 1 MiB.",
    "415": "The body is not JSON.",
    "503": "The database is out of reach.",
}


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """``code`` is stable, for programs; ``message`` says what to do, ``param`` names the field at fault."""

    message: str
    type: str
    code: str
    param: str | None


class Error(Struct, frozen=True, kw_only=True):
    """Every refusal has this shape; some add further members beside ``message``."""

    error: ErrorDetail


def document(actions: Iterable[Action[..., Struct]]) -> Object:
    """The whole document, ready for JSON."""
    listed = tuple(actions)
    bodies = [action.body for action in listed if action.body is not None]
    _, schemas = msgspec.json.schema_components(
        [*bodies, *(action.result for action in listed), Error], ref_template=_SCHEMAS
    )
    _require_what_is_always_there(schemas, [*(action.result for action in listed), Error])
    paths: dict[str, Json] = {}
    for action in listed:
        path = paths.setdefault(PREFIX + action.path, {})
        assert isinstance(path, dict)
        path[action.method.lower()] = _operation(action)
    nouns = dict.fromkeys(action.name.partition(".")[0] for action in listed)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tollway admin API",
            "version": tollway.__version__,
            "description": "Keys, tenants, spend, models and configuration. "
            "Every call takes the admin key or a user's token, and shows no more than its holder may see.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"x-api-key": []}],
        "tags": [{"name": noun} for noun in nouns],
        "paths": paths,
        "components": {
            "schemas": dict(schemas),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _require_what_is_always_there(schemas: dict[str, Object], answers: Iterable[type[Struct]]) -> None:
    """A default says what may be left out of a request. An answer leaves out only what its Struct omits."""
    for struct in _structs(inspect.multi_type_info(answers)):
        if not struct.cls.__struct_config__.omit_defaults:
            fields = msgspec.structs.fields(struct.cls)
            given = [field.encode_name for field in fields if field.default is not UNSET]
            schemas[struct.cls.__name__]["required"] = [*given]


def _structs(types: Iterable[inspect.Type]) -> list[inspect.StructType]:
    """Every Struct that occurs in these types, once."""
    found: dict[type, inspect.StructType] = {}
    waiting = list(types)
    while waiting:
        each = waiting.pop()
        if isinstance(each, inspect.StructType) and each.cls not in found:
            found[each.cls] = each
            waiting += [field.type for field in each.fields]
        elif isinstance(each, inspect.UnionType):
            waiting += each.types
        elif isinstance(each, inspect.VarTupleType | inspect.ListType):
            waiting.append(each.item_type)
        elif isinstance(each, inspect.DictType):
            waiting.append(each.value_type)
    return list(found.values())


def _operation(action: Action[..., Struct]) -> Object:
    statuses = ["400", "401", "403", "503"]
    content: Object = {"application/json": {"schema": _reference(action.result)}}
    if action.csv is not None:
        content["text/csv"] = {"schema": {"type": "string"}}
    if action.files:
        content["application/vnd.apache.parquet"] = {"schema": {"type": "string", "format": "binary"}}
    if "{" in action.path:
        statuses.append("404")
    if action.body is not None:
        statuses += ["413", "415"]
    if action.audit or action.result.__name__ == "EventPage":
        statuses.append("409")
    responses: Object = {
        str(action.status): {"description": "Done.", "headers": _HEADERS, "content": content}
    }
    for status in sorted(statuses):
        responses[status] = {
            "description": _REFUSALS[status],
            "headers": _HEADERS,
            "content": {"application/json": {"schema": _reference(Error)}},
        }
    operation: Object = {
        "operationId": action.name,
        "tags": [action.name.partition(".")[0]],
        "summary": action.summary,
        "description": f"{action.description}\n\nPermission: `{action.permission}`.",
        "parameters": [*_path_parameters(action), *_query_parameters(action)],
        "responses": responses,
    }
    if action.body is not None:
        required = any(field.required for field in msgspec.structs.fields(action.body))
        operation["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": _reference(action.body)}},
        }
    return operation


_HEADERS: Object = {
    "x-tollway-request-id": {"description": "Names this request in the logs.", "schema": {"type": "string"}}
}


def _reference(struct: type[Struct]) -> Object:
    return {"$ref": _SCHEMAS.format(name=struct.__name__)}


def _path_parameters(action: Action[..., Struct]) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": "Id or name.",
            "schema": {"type": "string"},
        }
        for name in re.findall(r"{(\w+)}", action.path)
    ]


def _query_parameters(action: Action[..., Struct]) -> list[Json]:
    found: list[Json] = []
    if action.query is not None:
        _, components = msgspec.json.schema_components([action.query], ref_template=_SCHEMAS)
        for name, schema in components[action.query.__name__]["properties"].items():
            found.append(_query_parameter(name, _without_null(schema)))
    if action.formats:
        found.append(_query_parameter("format", {"enum": list(action.formats), "default": "json"}))
    return found


def _query_parameter(name: str, schema: Object) -> Object:
    parameter: Object = {"name": name, "in": "query", "required": False, "schema": schema}
    description = schema.pop("description", None)
    if description is not None:
        parameter["description"] = description
    if schema.get("type") == "array":
        parameter |= {"style": "form", "explode": False}
    return parameter


def _without_null(schema: Object) -> Object:
    """A query parameter is there or it is not: ``null`` is no value of its own."""
    branches = schema.get("anyOf")
    if not isinstance(branches, list):
        return schema
    kept: list[Json] = []
    for each in branches:
        assert isinstance(each, dict)
        if each.get("type") != "null":
            kept.append(each)
    rest: Object = {key: value for key, value in schema.items() if key != "anyOf" and value is not None}
    first = kept[0]
    if len(kept) == 1 and isinstance(first, dict):
        return {**rest, **first}
    return {**rest, "anyOf": kept}
