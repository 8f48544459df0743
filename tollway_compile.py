"""Building Tollway: which modules are compiled to C, how, and the wheel's build hook that does it.

The sources stay ordinary typed Python and run uncompiled everywhere. Where a C compiler and Python's headers are
found, the modules every request walks through are compiled by mypyc; nothing else of a wheel depends on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # scripts/compile.py needs only what is below
    BuildHookInterface = object  # type: ignore[assignment,misc]

MODULES = (
    "http/doorway.py",
    "http/lane.py",
    "model/money.py",
    "pipeline/authenticate.py",
    "pipeline/client.py",
    "pipeline/dispatch.py",
    "pipeline/grant.py",
    "pipeline/grow.py",
    "pipeline/habits.py",
    "pipeline/meter.py",
    "pipeline/record.py",
    "pipeline/relay.py",
    "pipeline/reserve.py",
    "pipeline/resolve.py",
    "pipeline/retrying.py",
    "pipeline/serve.py",
    "pipeline/services.py",
    "pipeline/snapshot.py",
    "pricing/cost.py",
    "providers/provider.py",
    "providers/upstream.py",
    "shared/memory.py",
    "storage/entries.py",
    "storage/spool.py",
    "wire/body.py",
    "wire/formats/openai_stream.py",
    "wire/formats/openai_usage.py",
    "wire/sse.py",
)
"""Below ``src/tollway``. A module belongs here when the profile of a request shows it."""

GROUP = "tollway_compiled"
LIMIT = 600.0


class Uncompilable(Exception):
    """This machine cannot compile, or the compiler failed; the message says which."""


def compiled_files(source: Path) -> Iterator[Path]:
    """What an earlier run left in the source tree."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for module in MODULES:
        file = (source / "tollway" / module).with_suffix(suffix)
        if file.exists():
            yield file
    yield from source.glob(f"{GROUP}__mypyc.*")


def compile_tree(source: Path, workspace: Path) -> list[tuple[Path, str]]:
    """Compile a copy of ``source`` in ``workspace``. Returns (built file, its place below the source root)."""
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if shutil.which(os.environ.get("CC", "cc")) is None and shutil.which("gcc") is None:
        raise Uncompilable("no C compiler was found")
    if not headers.exists():
        raise Uncompilable("Python's headers were not found (on Debian: apt-get install python3-dev)")
    shutil.rmtree(workspace, ignore_errors=True)
    shutil.copytree(
        source / "tollway",
        workspace / "tollway",
        ignore=shutil.ignore_patterns("*.so", "__pycache__", "prices", "catalog"),
    )
    script = (
        "from setuptools import setup\n"
        "from mypyc.build import mypycify\n"
        f"modules = {[f'tollway/{module}' for module in MODULES]!r}\n"
        "extensions = mypycify(['--ignore-missing-imports', *modules], opt_level='2', "
        f"group_name={GROUP!r})\n"
        "setup(name='tollway', packages=[], ext_modules=extensions, "
        "script_args=['-q', 'build_ext', '--inplace'])\n"
    )
    try:
        subprocess.run(  # noqa: S603 - our own interpreter and script
            [sys.executable, "-c", script],
            cwd=workspace,
            env={**os.environ, "CFLAGS": os.environ.get("CFLAGS", "") + " -w", "MYPYPATH": str(workspace)},
            check=True,
            capture_output=True,
            timeout=LIMIT,
        )
    except subprocess.CalledProcessError as error:
        lines = (error.stdout + error.stderr).decode(errors="replace").strip().splitlines()
        raise Uncompilable("\n".join(lines[-5:]) or "the compiler failed") from error
    except subprocess.TimeoutExpired as error:
        raise Uncompilable(f"the compiler took longer than {LIMIT:.0f} s") from error
    return [(file, str(file.relative_to(workspace))) for file in compiled_files(workspace)]


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the compiled modules into a wheel. ``TOLLWAY_COMPILE=0`` builds a pure one; editable installs are pure."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable" or os.environ.get("TOLLWAY_COMPILE") == "0":
            return
        root = Path(self.root)
        try:
            made = compile_tree(root / "src", root / "build" / "compile")
        except Uncompilable as error:
            self.app.display_warning(f"Tollway is built as plain Python: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update({str(file): place for file, place in made})
