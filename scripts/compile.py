"""Compile the hot path to C with mypyc, in place, beside the sources it is made from.

Needs a C compiler and Python's headers; without them Tollway runs the same code as plain Python, at about twice the
CPU. ``--remove`` deletes what was compiled. The modules are listed in ``tollway_compile.py``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tollway_compile import MODULES, Uncompilable, compile_tree, compiled_files  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--remove", action="store_true", help="delete the compiled modules")
    arguments = parser.parse_args()
    source = ROOT / "src"
    for stale in compiled_files(source):
        stale.unlink()
    if arguments.remove:
        return 0
    print(f"Compiling {len(MODULES)} modules of the hot path (about half a minute, once) …", flush=True)
    started = time.monotonic()
    try:
        made = compile_tree(source, ROOT / "build" / "compile")
    except Uncompilable as error:
        print(f"Not compiled: {error}. Tollway runs as plain Python, which takes about twice the CPU.")
        return 0
    for file, place in made:
        target = source / place
        target.write_bytes(file.read_bytes())
        target.chmod(0o755)
    print(f"Compiled in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
