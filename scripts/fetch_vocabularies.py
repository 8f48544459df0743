"""Fetch the vocabularies that Tollway bundles, check them against OpenAI's published hashes, pack them reproducibly.

    python scripts/fetch_vocabularies.py

They are taken out of the wheel of bpe-openai (MIT), which carries them unchanged; pip downloads it from the package
index it is set up for. Running it again changes nothing.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tollway.tokens.vocabulary import FOLDER, VOCABULARIES

PACKAGE = "bpe-openai==0.1.4"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, help="a wheel that is here already, instead of downloading one")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where to put them (default: the package)")
    given = parser.parse_args()
    if given.wheel is not None:
        return unpack(given.wheel, given.out)
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--only-binary=:all:", "--dest", folder, PACKAGE], check=True)
        return unpack(next(Path(folder).glob("*.whl")), given.out)


def unpack(wheel: Path, out: Path) -> int:
    """Both vocabularies of ``wheel`` into ``out``, or none where one is not what it should be."""
    packed: dict[str, bytes] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name, vocabulary in VOCABULARIES.items():
            content = gzip.decompress(archive.read(f"bpe_openai/data/{name}.tiktoken.gz"))
            found = hashlib.sha256(content).hexdigest()
            if found != vocabulary.sha256:
                print(f"{name}: SHA-256 {found} is not the published {vocabulary.sha256}", file=sys.stderr)
                return 1
            packed[name] = gzip.compress(content, compresslevel=9, mtime=0)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in packed.items():
        (out / f"{name}.tiktoken.gz").write_bytes(content)
        print(f"{name}: {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
