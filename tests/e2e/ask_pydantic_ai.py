"""Run by an interpreter that has PydanticAI and Anthropic's SDK: asks the models named after URL and key, and prints
a JSON object for each. It knows nothing of the tests."""

from __future__ import annotations

import asyncio
import json
import sys

from pydantic import BaseModel
from pydantic_ai import Agent, ToolOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider


class Forecast(BaseModel):
    city: str
    degrees: float


def weather(city: str, days: int) -> str:
    """The weather of a city."""
    return f"sunny in {city} for {days} days"


async def main(url: str, key: str, upstreams: list[str]) -> None:
    provider = AnthropicProvider(base_url=url, api_key=key)
    for upstream in upstreams:
        agent = Agent(AnthropicModel(f"tool-{upstream}", provider=provider), tools=[weather])
        done = await agent.run("How will the weather be?")
        async with agent.run_stream("How will the weather be?") as stream:
            streamed = "".join([piece async for piece in stream.stream_text(delta=True)])
        typed = Agent(
            AnthropicModel(f"result-{upstream}", provider=provider), output_type=ToolOutput(Forecast)
        )
        parts = [part for message in done.all_messages() for part in message.parts]
        returned = [part.content for part in parts if part.part_kind == "tool-return"]
        said = {
            "upstream": upstream,
            "output": done.output,
            "streamed": streamed,
            "returned": returned,
            "requests": done.usage.requests,
            "typed": (await typed.run("How will the weather be?")).output.model_dump(),
        }
        print(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
