"""The list of compiled modules: what stands in it can be compiled without changing what it does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tollway_compile import MODULES, compiled_files

SOURCE = Path(__file__).parent.parent / "src"


@pytest.mark.parametrize("module", MODULES)
def test_a_compiled_module_defines_no_struct(module: str) -> None:
    """Compiled classes lose the annotations msgspec decodes by, and would decode nothing without a word."""
    tree = ast.parse((SOURCE / "tollway" / module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base) for base in node.bases}
            assert not bases & {"Struct", "msgspec.Struct"}, (
                f"{module}: {node.name} belongs into a module of its own"
            )


@pytest.mark.parametrize("module", MODULES)
def test_a_compiled_module_awaits_nothing_in_finally(module: str) -> None:
    """Compiled, an exception on its way through a ``finally`` that awaits is lost there, and the function goes on."""
    tree = ast.parse((SOURCE / "tollway" / module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            within = [each for line in node.finalbody for each in ast.walk(line)]
            assert not [
                each for each in within if isinstance(each, ast.Await | ast.AsyncWith | ast.AsyncFor)
            ], f"{module}, line {node.lineno}: an await in finally"


def test_compiled_modules_are_those_of_the_sources() -> None:
    """Tests of an edited module must not run what was compiled before the edit."""
    for file in compiled_files(SOURCE):
        source = file.with_name(file.name.split(".")[0] + ".py")
        if source.exists():
            assert file.stat().st_mtime >= source.stat().st_mtime, (
                f"{source} is newer: make test, or make plain"
            )
