"""Write the generated pages of docs/reference from what the code declares.

    python scripts/build_docs.py [SECTION …]      writes the pages (all of them if none is named)
    python scripts/build_docs.py --check          writes nothing; 1 if a page is not what it would write

A section is a function that returns a page's text; it reads the code and nothing else.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import dialects_page
import roles_page

from tollway.providers.catalog import CatalogEntry, load_catalog
from tollway.providers.quirks import Quirk

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"


def providers() -> str:
    """Every entry of the provider catalogue."""
    catalog = load_catalog()
    hosted = [entry for entry in catalog.values() if not entry.local]
    local = [entry for entry in catalog.values() if entry.local]
    lines = [
        "# Providers",
        "",
        *_prose(
            f"Tollway knows {len(hosted)} providers and {len(local)} kinds of servers you run yourself.",
            "Each is one file in `src/tollway/providers/catalog/`;",
            "this page is generated from them by `scripts/build_docs.py`.",
        ),
        "",
        "In the configuration, `type` is the name below; a provider called like its type may leave it out:",
        "",
        "```yaml",
        "providers:",
        "  groq: {api_key: ${GROQ_API_KEY}}",
        "  azure-eu: {type: azure, base_url: https://my-eu.openai.azure.com, api_key: ${AZURE_EU_KEY}}",
        "  my-vllm: {type: vllm, base_url: http://127.0.0.1:8000/v1}",
        "```",
        "",
        *_prose(
            "With no configuration at all, `tollway serve` starts every provider whose variable is set.",
            "Variables marked * mean other things as well, so they start nothing by themselves.",
            "A `base_url` may be written with or without the path in brackets.",
        ),
        "",
        "## Hosted",
        "",
        "| type | provider | base URL | variables | endpoints |",
        "|---|---|---|---|---|",
        *map(_row, hosted),
        "",
        "## Servers you run",
        "",
        "No key is needed unless the server asks for one.",
        "",
        "| type | server | base URL | variables | endpoints |",
        "|---|---|---|---|---|",
        *map(_row, local),
        "",
        "## Other regions",
        "",
        *_prose(
            "Give one of these as `region`; where a base URL above has `{region}` in it, any other is put in there.",
        ),
        "",
        "| type | region | base URL |",
        "|---|---|---|",
        *(
            f"| `{entry.name}` | {region} | `{url}` |"
            for entry in catalog.values()
            for region, url in entry.regions.items()
        ),
        "",
        "## What is changed in a request",
        "",
        *_prose(
            "A request in the provider's own format passes as it is, except for the model's name and what is",
            "listed here, where a provider refuses or renames a field. Stream usage says whether a stream",
            "reports its token usage when it is asked to (the usual case, not listed), without being asked,",
            "or refuses the question.",
        ),
        "",
        "| type | changes | stream usage |",
        "|---|---|---|",
        *(_changes(entry) for entry in catalog.values() if entry.quirks or entry.stream_usage != "ask"),
        "",
    ]
    return "\n".join(lines)


def _prose(*words: str) -> list[str]:
    return textwrap.wrap(" ".join(words), 110, break_on_hyphens=False)


_STREAM_USAGE = {"ask": "-", "always": "without being asked", "never": "refuses the question"}


def _changes(entry: CatalogEntry) -> str:
    changes = "; ".join(map(_change, entry.quirks)) or "-"
    return f"| `{entry.name}` | {changes} | {_STREAM_USAGE[entry.stream_usage]} |"


def _row(entry: CatalogEntry) -> str:
    if entry.base_url:
        address = f"`{entry.base_url}`" + (f" (`{entry.path_prefix}`)" if entry.path_prefix else "")
    else:
        prefix = f" (`{entry.path_prefix}`)" if entry.path_prefix else ""
        address = f"yours, like `{entry.base_url_example}`{prefix}"
    variables = ", ".join(f"`{name}`" + (" *" if name in entry.shared_env else "") for name in entry.env)
    extra = [name for name in entry.native.endpoints if name not in entry.endpoints] if entry.native else []
    endpoints = ", ".join((*entry.endpoints, *extra))
    return (
        f"| `{entry.name}` | [{entry.title}]({entry.docs}) | {address} | {variables or '-'} | {endpoints} |"
    )


_CHANGES: dict[str, str] = {
    "Drop": "`{field}` is left out",
    "Rename": "`{field}` becomes `{to}`",
    "Clamp": "`{field}` is kept within {min} to {max}",
    "Set": "`{field}` is {value}",
    "Map": "`{field}`: {values}",
    "Role": "role `{field}` becomes `{to}`",
    "Flatten": "text parts in `{field}` become one string",
    "Strip": "{names} of `{field}` are left out",
    "Ids": "ids of tool calls in `{field}` become {length} letters and digits",
}


def _change(quirk: Quirk) -> str:
    fields = {name: getattr(quirk, name) for name in quirk.__struct_fields__}
    fields["min"] = "any" if fields.get("min") is None else fields["min"]
    fields["max"] = "any" if fields.get("max") is None else fields["max"]
    fields["value"] = str(fields.get("value")).lower()
    fields["values"] = ", ".join(f"`{a}` becomes `{b}`" for a, b in (fields.get("values") or {}).items())
    fields["names"] = " and ".join(f"`{name}`" for name in fields.get("names") or ())
    text = _CHANGES[type(quirk).__name__].format(**fields)
    return f"{text} (in {', '.join(quirk.on)})" if quirk.on else text


SECTIONS: dict[str, Callable[[], str]] = {
    "providers": providers,
    "dialects": dialects_page.page,
    "roles": roles_page.page,
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("section", nargs="*", help=f"any of: {', '.join(SECTIONS)}")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.section if name not in SECTIONS]
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    stale = 0
    for name in chosen.section or SECTIONS:
        page, text = REFERENCE / f"{name}.md", SECTIONS[name]()
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if chosen.check:
            print(
                f"docs/reference/{page.name} is out of date: run python scripts/build_docs.py",
                file=sys.stderr,
            )
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
            print(f"wrote docs/reference/{page.name}")
    return 1 if chosen.check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
