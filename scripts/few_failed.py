"""Exit 0 when the last pytest run had failures, but no more than the number given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

found = Path("build/pytest/v/cache/lastfailed")
failed = json.loads(found.read_text()) if found.exists() else {}
sys.exit(0 if 0 < len(failed) <= int(sys.argv[1]) else 1)
