"""LangChain's ChatOpenAI as an agent: tools called and answered, whole and streamed, and structured output, with
models of other vendors behind the gateway; its two ways of speaking to OpenAI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from played import SAID, UPSTREAMS, played_gateway, player
from pydantic import BaseModel, SecretStr
from served import Served

ASKED = {"city": "Oslo", "days": 3}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    players = {"tool": player("weather", ASKED), "pair": player(parallel=2), "plain": player()}
    with played_gateway(tmp_path_factory.mktemp("gateway"), players) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Served) -> str:
    return gateway.key("langchain")


@tool
def weather(city: str, days: int) -> str:
    """The weather of a city."""
    return f"sunny in {city} for {days} days"


@tool
def clock() -> str:
    """What time it is."""
    return "noon"


TOOLS = {"weather": weather, "clock": clock}


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str
    rating: int | None = None


def model_of(gateway: Served, key: str, model: str, responses: bool) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=gateway.base_url,
        api_key=SecretStr(key),
        model=model,
        max_retries=0,
        use_responses_api=responses,
    )


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_tool_and_then_the_answer(
    gateway: Served, key: str, upstream: str, responses: bool, streamed: bool
) -> None:
    model = model_of(gateway, key, f"tool-{upstream}", responses).bind_tools(list(TOOLS.values()))

    def ask(turns: list[BaseMessage]) -> BaseMessage:
        if not streamed:
            return model.invoke(turns)
        whole: AIMessageChunk | None = None
        for chunk in model.stream(turns):
            whole = chunk if whole is None else whole + chunk  # type: ignore[assignment]
        assert whole is not None
        return whole

    turns: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("How will the weather be?")]
    asked = ask(turns)
    (call,) = asked.tool_calls  # type: ignore[attr-defined]
    assert (call["name"], call["args"]) == ("weather", ASKED)
    result = weather.invoke(call)
    assert result.content == "sunny in Oslo for 3 days"
    answer = ask([*turns, asked, result])
    assert answer.text == SAID
    assert not answer.tool_calls  # type: ignore[attr-defined]


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_two_tools_at_once(gateway: Served, key: str, upstream: str) -> None:
    model = model_of(gateway, key, f"pair-{upstream}", False).bind_tools(list(TOOLS.values()))
    question = HumanMessage("How will the weather be, and when?")
    asked = model.invoke([question])
    assert [call["name"] for call in asked.tool_calls] == ["weather", "clock"]
    assert len({call["id"] for call in asked.tool_calls}) == 2
    results = [TOOLS[call["name"]].invoke(call) for call in asked.tool_calls]
    assert model.invoke([question, asked, *results]).text == SAID
    # The order in which a client answers is its own.
    assert model.invoke([question, asked, *results[::-1]]).text == SAID


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(gateway: Served, key: str, upstream: str, method: str) -> None:
    model = model_of(gateway, key, f"plain-{upstream}", False)
    made = model.with_structured_output(Joke, method=method).invoke("Tell a joke.")  # type: ignore[arg-type]
    assert isinstance(made, Joke)
