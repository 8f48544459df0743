"""The tongues the simulator speaks, one folder each. A further provider's dialect is a folder and a name in
this list."""

from __future__ import annotations

from tollway.simulator.answer import Dialect
from tollway.simulator.dialects.openai import OPENAI

DIALECTS: tuple[Dialect, ...] = (OPENAI,)
