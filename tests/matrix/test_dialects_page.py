"""The reference page of dialects is what the code does, and what a provider does not get is never kept quiet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dialects_page import CLIENTS, PROBES, TARGETS, verdict

ROOT = Path(__file__).resolve().parents[2]

LIKE_WITHOUT_IT = {
    # These providers' models decide how deep they think, where nothing is said.
    ("anthropic.messages", "thinking (adaptive)", "openai.chat"),
    ("anthropic.messages", "thinking (adaptive)", "openai.responses"),
    # Thoughts are told whenever there are any.
    ("openai.responses", "reasoning.summary", "ollama.chat"),
    # There is one tier, and it is this one.
    ("anthropic.messages", "service_tier", "cohere.chat"),
    ("anthropic.messages", "service_tier", "ollama.chat"),
}


def test_page_is_what_the_code_does() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "build_docs.py", "--check", "dialects"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_field_is_lost_in_silence() -> None:
    silent = {
        (client, name, target)
        for client in CLIENTS
        for name, probe in PROBES[client].items()
        for target in TARGETS
        if verdict(client, probe, target) == "silent"
    }
    assert silent == LIKE_WITHOUT_IT


def test_text_tools_images_and_schemas_reach_everybody() -> None:
    everywhere = {
        "openai.chat": ("system message", "image (data)", "tools", "response_format: json_schema"),
        "openai.responses": ("instructions", "input_image (data)", "tools", "text.format: json_schema"),
        "anthropic.messages": ("system", "image (data)", "tools", "output_config.format"),
        "gemini.generate": (
            "systemInstruction",
            "inlineData: image",
            "functionDeclarations",
            "responseJsonSchema",
        ),
    }
    for client, names in everywhere.items():
        for name in names:
            for target in TARGETS:
                assert verdict(client, PROBES[client][name], target) in ("served", "relayed"), (client, name)
