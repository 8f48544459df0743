"""The reference page of the admin API: the OpenAPI document as one HTML page, without scripts."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from tollway.http.api_document import Json, Object

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem }
code, pre { font: 13px/1.5 ui-monospace, monospace }
pre { background: var(--soft); padding: .6rem .8rem; overflow-x: auto; border-radius: 6px }
nav { columns: 2; padding: .6rem 0; border-block: 1px solid var(--line) }
nav a { display: block; color: inherit; text-decoration: none }
nav a:hover, nav a:focus { text-decoration: underline }
section { border-bottom: 1px solid var(--line); padding: .8rem 0 }
h2 { margin: 2rem 0 .4rem; text-transform: capitalize }
h3 { margin: .4rem 0; font: 600 15px/1.5 ui-monospace, monospace }
.method { color: #fff; padding: .1rem .45rem; border-radius: 4px; font-size: 12px; background: #15803d }
.GET { background: #2563eb }
.PATCH { background: #b45309 }
table { border-collapse: collapse; width: 100%; font-size: 14px; margin: .4rem 0 }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0 }
td { border-top: 1px solid var(--line) }
th { font-weight: 600 }
"""


def reference_page(document: Object) -> str:
    """The whole page, for a document that ``api_document`` made."""
    info, paths, components = (_object(document[name]) for name in ("info", "paths", "components"))
    schemas = _object(components["schemas"])
    operations = [
        (method.upper(), path, _object(operation))
        for path, methods in paths.items()
        for method, operation in _object(methods).items()
    ]
    parts = [
        f"<title>{_text(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{_text(info['title'])} <small>{_text(info['version'])}</small></h1>",
        f"<p>{_text(info['description'])} The machine-readable form is <code>/api/openapi.json</code>.</p>",
        "<pre>curl -H &quot;Authorization: Bearer $TOLLWAY_ADMIN_KEY&quot; http://127.0.0.1:4000/api/keys</pre>",
        "<nav>",
        *(
            f'<a href="#{_text(operation["operationId"])}"><code>{method:6}{_text(path)}</code></a>'
            for method, path, operation in operations
        ),
        "</nav>",
    ]
    heading = ""
    for method, path, operation in operations:
        noun = str(operation["operationId"]).partition(".")[0]
        if noun != heading:
            heading = noun
            parts.append(f"<h2>{_text(noun)}</h2>")
        parts.append(_section(method, path, operation))
    parts.append("<h2>Shapes</h2>")
    parts += [_shape(name, _object(schema)) for name, schema in schemas.items()]
    return '<!doctype html><html lang="en"><meta charset="utf-8">' + "\n".join(parts) + "</html>"


def _section(method: str, path: str, operation: Object) -> str:
    paragraphs = str(operation["description"]).split("\n\n")
    parts = [
        f'<section id="{_text(operation["operationId"])}">',
        f'<h3><span class="method {method}">{method}</span> {_text(path)}</h3>',
        *(f"<p>{_prose(paragraph)}</p>" for paragraph in paragraphs),
    ]
    parameters = operation.get("parameters")
    if isinstance(parameters, list) and parameters:
        rows = [_object(parameter) for parameter in parameters]
        parts.append(
            _table(
                ("parameter", "in", "type", ""),
                [
                    (
                        _code(row["name"]),
                        _text(row["in"]),
                        _type(row["schema"]),
                        _prose(row.get("description", "")),
                    )
                    for row in rows
                ],
            )
        )
    if "requestBody" in operation:
        parts.append(f"<p>Body: {_content(_object(operation['requestBody']))}</p>")
    answers = [
        (_code(status), _prose(_object(answer)["description"]), _content(_object(answer)))
        for status, answer in _object(operation["responses"]).items()
    ]
    parts += [_table(("status", "", "answer"), answers), "</section>"]
    return "\n".join(parts)


def _shape(name: str, schema: Object) -> str:
    properties = schema.get("properties")
    required = schema.get("required")
    needed = required if isinstance(required, list) else []
    rows = []
    if isinstance(properties, dict):
        for field, found in properties.items():
            mark = "required" if field in needed else ""
            rows.append((_code(field), _type(found), mark, _prose(_description(found))))
    about = _prose(schema.get("description", ""))
    table = _table(("field", "type", "", ""), rows) if rows else f"<p>{_type(schema)}</p>"
    return f'<section id="{_text(name)}"><h3>{_text(name)}</h3><p>{about}</p>{table}</section>'


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{lines}</table>"


def _content(holder: Object) -> str:
    content = _object(holder["content"])
    return ", ".join(
        f"{_type(_object(each)['schema'])} <small>{_text(media)}</small>" for media, each in content.items()
    )


def _type(schema: Json) -> str:
    """A schema in one line of HTML; named shapes become links."""
    found = _object(schema)
    if "$ref" in found:
        name = _text(str(found["$ref"]).rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    choices = found.get("enum")
    if isinstance(choices, list):
        return " | ".join(_code(choice) for choice in choices)
    branches = found.get("anyOf")
    if isinstance(branches, list):
        return " | ".join(_type(branch) for branch in branches)
    if found.get("type") == "array":
        return f"list of {_type(found.get('items', {}))}"
    if found.get("type") == "object" and isinstance(found.get("additionalProperties"), dict):
        return f"object of {_type(found['additionalProperties'])}"
    return _text(found.get("type", "any"))


def _description(schema: Json) -> str:
    found = _object(schema)
    branches = found.get("anyOf")
    inner = [_description(branch) for branch in branches] if isinstance(branches, list) else []
    own = found.get("description")
    return str(own) if own is not None else next((text for text in inner if text), "")


def _prose(text: Json) -> str:
    """Plain text whose words between backticks are code."""
    pieces = str(text).replace("``", "`").split("`")
    return "".join(_code(piece) if at % 2 else escape(piece) for at, piece in enumerate(pieces))


def _code(text: Json) -> str:
    return f"<code>{escape(str(text))}</code>"


def _text(value: Json) -> str:
    return escape(str(value))


def _object(value: Json) -> Object:
    assert isinstance(value, dict)
    return value
