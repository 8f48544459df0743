"""PydanticAI with its models for OpenAI and Google, each before providers that speak something else; its model for
Anthropic wants another release of Anthropic's SDK than the other tests: test_agent_pydantic_ai_anthropic.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from played import SAID, UPSTREAMS, played_gateway, player
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models import Model
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider
from served import Served


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    players = {
        "tool": player("weather", {"city": "Oslo", "days": 3}),
        "result": player("final_result", {"city": "Oslo", "degrees": 7.5}),
        "plain": player(tool_calls="off"),
    }
    with played_gateway(tmp_path_factory.mktemp("gateway"), players) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Served) -> str:
    return gateway.key("pydantic")


def openai_chat(gateway: Served, key: str, model: str) -> Model:
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=gateway.base_url, api_key=key))


def openai_responses(gateway: Served, key: str, model: str) -> Model:
    return OpenAIResponsesModel(model, provider=OpenAIProvider(base_url=gateway.base_url, api_key=key))


def google(gateway: Served, key: str, model: str) -> Model:
    return GoogleModel(model, provider=GoogleProvider(base_url=gateway.url, api_key=key))


Make = Callable[[Served, str, str], Model]
CLIENTS: list[Make] = [openai_chat, openai_responses, google]
every_pair = pytest.mark.parametrize("upstream", UPSTREAMS)
every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda one: one.__name__)


class Forecast(BaseModel):
    city: str
    degrees: float


def weather(city: str, days: int) -> str:
    """The weather of a city."""
    return f"sunny in {city} for {days} days"


def returns(messages: list[object]) -> list[object]:
    parts = [part for one in messages for part in getattr(one, "parts", ())]
    return [
        part.content for part in parts if isinstance(part, ToolReturnPart) and part.tool_name == "weather"
    ]


@every_client
@every_pair
async def test_a_tool_and_then_the_answer(gateway: Served, key: str, client: Make, upstream: str) -> None:
    agent = Agent(client(gateway, key, f"tool-{upstream}"), instructions="Be brief.", tools=[weather])
    done = await agent.run("How will the weather be?")
    assert done.output == SAID
    assert returns(list(done.all_messages())) == ["sunny in Oslo for 3 days"]
    assert done.usage.requests == 2
    assert done.usage.input_tokens > 0
    assert done.usage.output_tokens > 0


@every_client
@every_pair
async def test_the_same_streamed(gateway: Served, key: str, client: Make, upstream: str) -> None:
    agent = Agent(client(gateway, key, f"tool-{upstream}"), tools=[weather])
    async with agent.run_stream("How will the weather be?") as stream:
        text = "".join([piece async for piece in stream.stream_text(delta=True)])
    assert text == SAID
    assert returns(list(stream.all_messages())) == ["sunny in Oslo for 3 days"]


@every_client
@every_pair
async def test_structured_output_by_a_tool(gateway: Served, key: str, client: Make, upstream: str) -> None:
    agent = Agent(client(gateway, key, f"result-{upstream}"), output_type=ToolOutput(Forecast))
    assert (await agent.run("How will the weather be?")).output == Forecast(city="Oslo", degrees=7.5)


@every_client
@every_pair
async def test_structured_output_of_the_model(gateway: Served, key: str, client: Make, upstream: str) -> None:
    agent = Agent(client(gateway, key, f"plain-{upstream}"), output_type=NativeOutput(Forecast))
    assert isinstance((await agent.run("How will the weather be?")).output, Forecast)
