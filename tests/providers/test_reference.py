from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tollway.providers.catalog import load_catalog

ROOT = Path(__file__).resolve().parents[2]
BUILDER = ROOT / "scripts" / "build_docs.py"


def test_reference_is_what_the_catalogue_says() -> None:
    done = subprocess.run(
        [sys.executable, BUILDER, "--check", "providers"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_provider_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "providers.md").read_text(encoding="utf-8")
    for entry in load_catalog().values():
        assert f"| `{entry.name}` | [{entry.title}]({entry.docs}) |" in page
        for quirk in entry.quirks:
            assert f"`{quirk.field}`" in page
