"""Print the tests that failed in the last pytest run of a cache directory, a line each; exit 1 when there were none,
or more than the number given. ``few_failed.py build/pytest 10``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

found = Path(sys.argv[1], "v/cache/lastfailed")
failed = json.loads(found.read_text()) if found.exists() else {}
print(*failed, sep="\n")
sys.exit(0 if 0 < len(failed) <= int(sys.argv[2]) else 1)
