"""Installs the peers at pinned versions into build/peers, each in an environment of its own; does nothing
when they are there. The only part of bench/ that uses the network."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv

from msgspec import json

from bench.subjects import PEERS

LITELLM = "1.106.2"
PORTKEY = "1.15.2"


def install_litellm() -> None:
    folder = PEERS / "litellm"
    if not folder.exists():
        venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    found = subprocess.run([*pip, "show", "litellm"], capture_output=True, text=True, check=False)
    if f"Version: {LITELLM}\n" in found.stdout:
        print(f"litellm {LITELLM} is there")
        return
    print(f"installing litellm {LITELLM} (about 100 packages)")
    subprocess.run([*pip, "install", "-q", f"litellm[proxy]=={LITELLM}"], check=True, timeout=1200)


def install_portkey() -> None:
    folder = PEERS / "portkey"
    manifest = folder / "node_modules" / "@portkey-ai" / "gateway" / "package.json"
    if manifest.exists() and json.decode(manifest.read_bytes())["version"] == PORTKEY:
        print(f"portkey {PORTKEY} is there")
        return
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is missing: install Node.js 20, or run `make bench` without the peers")
    print(f"installing @portkey-ai/gateway {PORTKEY}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n')
    command = [
        npm,
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        f"@portkey-ai/gateway@{PORTKEY}",
    ]
    subprocess.run(command, cwd=folder, check=True, timeout=1200)


def main() -> int:
    PEERS.mkdir(parents=True, exist_ok=True)
    try:
        install_litellm()
        install_portkey()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"installing a peer failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
