"""The tongues the simulator speaks, one folder or file each. A further provider's dialect is one more and a name
in this list."""

from __future__ import annotations

from tollway.simulator.answer import Dialect
from tollway.simulator.dialects.anthropic import ANTHROPIC
from tollway.simulator.dialects.bedrock import BEDROCK
from tollway.simulator.dialects.cohere import COHERE
from tollway.simulator.dialects.gemini import GEMINI
from tollway.simulator.dialects.ollama import OLLAMA
from tollway.simulator.dialects.openai import OPENAI

DIALECTS: tuple[Dialect, ...] = (OPENAI, ANTHROPIC, GEMINI, BEDROCK, OLLAMA, COHERE)
"""OpenAI's first: it answers what nobody owns."""
