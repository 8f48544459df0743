"""OpenAI's Agents SDK: a run of two turns with a tool between them, over both of its models and both transports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from agents import (
    Agent,
    Model,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    ToolCallItem,
    ToolCallOutputItem,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from played import SAID, UPSTREAMS, played_gateway, player
from pydantic import BaseModel
from served import Served

set_tracing_disabled(True)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    players = {"tool": player("weather", {"city": "Oslo", "days": 3}), "plain": player(tool_calls="off")}
    with played_gateway(tmp_path_factory.mktemp("gateway"), players) as running:
        yield running


@pytest.fixture
async def client(gateway: Served) -> AsyncIterator[AsyncOpenAI]:
    key = gateway.key(f"agents-{len(gateway.api('/keys')['data'])}")
    async with AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as made:
        yield made


@function_tool
def weather(city: str, days: int) -> str:
    """The weather of a city."""
    return f"sunny in {city} for {days} days"


class Forecast(BaseModel):
    city: str
    degrees: float


MODELS: dict[str, type[Model]] = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_two_turns(
    gateway: Served, client: AsyncOpenAI, upstream: str, kind: str, streamed: bool
) -> None:
    model = MODELS[kind](model=f"tool-{upstream}", openai_client=client)  # type: ignore[call-arg]
    agent = Agent(
        name="Weather",
        instructions="Use the tool.",
        tools=[weather],
        model=model,
        model_settings=ModelSettings(store=False, max_tokens=400, include_usage=True),
    )
    if streamed:
        running = Runner.run_streamed(agent, "How will the weather be?")
        deltas = ""
        async for event in running.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                deltas += event.data.delta
        items, final, usage = running.new_items, running.final_output, running.context_wrapper.usage
        assert deltas == SAID
    else:
        done = await Runner.run(agent, "How will the weather be?")
        items, final, usage = done.new_items, done.final_output, done.context_wrapper.usage
    assert final == SAID
    assert len([one for one in items if isinstance(one, ToolCallItem)]) == 1
    (result,) = [one for one in items if isinstance(one, ToolCallOutputItem)]
    assert result.output == "sunny in Oslo for 3 days"
    assert usage.requests == 2
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("kind", MODELS)
async def test_structured_output(client: AsyncOpenAI, upstream: str, kind: str) -> None:
    model = MODELS[kind](model=f"plain-{upstream}", openai_client=client)  # type: ignore[call-arg]
    agent = Agent(name="Weather", model=model, output_type=Forecast)
    done = await Runner.run(agent, "How will the weather be?")
    assert isinstance(done.final_output, Forecast)


async def test_a_conversation_that_goes_on(client: AsyncOpenAI) -> None:
    """The items of a run are the input of the next, at a provider of another kind too."""
    agents = {
        kind: Agent(
            name="Weather",
            tools=[weather],
            model=OpenAIResponsesModel(model=f"tool-{kind}", openai_client=client),
            model_settings=ModelSettings(store=False),
        )
        for kind in UPSTREAMS
    }
    turns: list[object] = []
    for kind in UPSTREAMS:
        turns.append({"role": "user", "content": "And now?"})
        done = await Runner.run(agents[kind], turns)  # type: ignore[arg-type]
        assert done.final_output == SAID
        turns = list(done.to_input_list())
    assert len(turns) >= 4 * len(UPSTREAMS)
