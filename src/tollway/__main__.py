"""``python -m tollway``: the same as the ``tollway`` command."""

from __future__ import annotations

from tollway.cli import main

if __name__ == "__main__":
    main()
