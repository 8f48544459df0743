"""Variables in a configuration: ``${NAME}``, ``${NAME:-default}``, and ``$${`` for a literal ``${``.

They are filled in after parsing, value by value, so that what a variable holds is never read as YAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as EnvironMapping

from tollway.config.report import Report, closest
from tollway.config.yaml_marks import Mapping, Node, Scalar, Sequence

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}\n\r]*)(\}?)")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)


def fill_in(node: Node, environ: EnvironMapping[str, str], report: Report) -> Node:
    """The same tree with every variable replaced. An unset one without a default is reported at its line."""
    return _Filler(environ, report).filled(node)


class _Filler:
    """Keeps what it has done: an aliased part is filled in, and complained about, once."""

    def __init__(self, environ: EnvironMapping[str, str], report: Report) -> None:
        self._environ = environ
        self._report = report
        self._done: dict[int, Node] = {}

    def filled(self, node: Node) -> Node:
        seen = self._done.get(id(node))
        if seen is not None:
            return seen
        if isinstance(node, Scalar):
            result: Node = self._scalar(node) if "${" in node.text else node
        elif isinstance(node, Sequence):
            result = Sequence(node.line, tuple(self.filled(item) for item in node.items), node.size)
        else:
            entries = {key: self.filled(value) for key, value in node.entries.items()}
            result = Mapping(node.line, entries, node.lines, node.size)
        self._done[id(node)] = result
        return result

    def _scalar(self, node: Scalar) -> Scalar:
        used = False

        def value_of(match: re.Match[str]) -> str:
            nonlocal used
            if match.group() == "$${":
                return "${"
            used = True
            inside = _INSIDE.match(match.group(1)) if match.group(2) else None
            if inside is None:
                self._report.add(
                    node.line, "a variable is written ${NAME} or ${NAME:-default}; $${ stands for ${ itself"
                )
                return ""
            name, default = inside.group(1), inside.group(2)
            value = self._environ.get(name)
            if value is not None and (value or default is None):
                self._report.hide(value)
                return value
            if default is not None:
                return default
            self._report.add(
                node.line,
                f"the environment variable {name} is not set (a default is written ${{{name}:-…}})",
                meant=closest(name, (known for known in self._environ if known != name)),
            )
            return ""

        text = _REFERENCE.sub(value_of, node.text)
        return Scalar(node.line, text, text, variables=node.text if used else "")
