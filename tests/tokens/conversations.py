"""Conversations of OpenAI's cookbook, for which it gives the counts its API answered."""

from __future__ import annotations

from msgspec import Raw

from tollway.wire.conversation import Conversation, Message, Role, Text, Tool


def turn(role: Role, text: str, name: str | None = None) -> Message:
    return Message(role=role, blocks=(Text(text=text),), name=name)


JARGON = Conversation(
    model="gpt-4o",
    messages=(
        turn("system", "You are a helpful, pattern-following assistant that translates corporate jargon into "
             "plain English."),
        turn("system", "New synergies will help drive top-line growth.", "example_user"),
        turn("system", "Things working well together will increase revenue.", "example_assistant"),
        turn("system", "Let's circle back when we have more bandwidth to touch base on opportunities for "
             "increased leverage.", "example_user"),
        turn("system", "Let's talk later when we're less busy about how to do better.", "example_assistant"),
        turn("user", "This late pivot means we don't have time to boil the ocean for the client deliverable."),
    ),
)  # fmt: skip

WEATHER = Conversation(
    model="gpt-4o",
    messages=(
        turn("system", "You are a helpful assistant that can answer to questions about the weather."),
        turn("user", "What's the weather like in San Francisco?"),
    ),
    tools=(
        Tool(
            name="get_current_weather",
            description="Get the current weather in a given location",
            schema=Raw(
                b'{"type":"object","properties":{"location":{"type":"string","description":"The city and state, e.g. '
                b'San Francisco, CA"},"unit":{"type":"string","description":"The unit of temperature to return",'
                b'"enum":["celsius","fahrenheit"]}},"required":["location"]}'
            ),
        ),
    ),
)
