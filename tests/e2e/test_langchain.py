"""LangChain's ChatOpenAI, the client most frameworks are built upon, against a real gateway with a virtual key."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr
from served import Served, served

EMBED = {"embed": "mock/text-embedding-3-small", "pair": "mock/gpt-4o-mini+parallel=2"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = {"small": "mock/gpt-4o-mini", **EMBED}
    with served(tmp_path_factory.mktemp("gateway"), {"models": models}) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Served) -> str:
    return gateway.key("langchain", models=["small", *EMBED])


def chat(gateway: Served, key: str, model: str = "small", **more: object) -> ChatOpenAI:
    return ChatOpenAI(base_url=gateway.base_url, api_key=SecretStr(key), model=model, max_retries=0, **more)  # type: ignore[arg-type]


@tool
def weather(city: str, days: int) -> str:
    """The weather of a city."""
    return f"sunny in {city} for {days} days"


@tool
def clock() -> str:
    """What time it is."""
    return "noon"


def test_invoke(gateway: Served, key: str) -> None:
    answer = chat(gateway, key).invoke([SystemMessage("Be brief."), HumanMessage("Say hello.")])
    assert isinstance(answer, AIMessage)
    assert answer.text
    assert answer.usage_metadata is not None
    event = gateway.events()[0]
    assert event["key"] == "langchain"
    assert event["usage"]["input"] == answer.usage_metadata["input_tokens"]
    assert event["usage"]["output"] == answer.usage_metadata["output_tokens"]


def test_stream(gateway: Served, key: str) -> None:
    whole: AIMessageChunk | None = None
    pieces = 0
    for chunk in chat(gateway, key, stream_usage=True).stream("Say hello."):
        whole = chunk if whole is None else whole + chunk
        pieces += 1
    assert whole is not None
    assert pieces > 10
    assert whole.text == chat(gateway, key).invoke("Say hello.").text
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 32


async def test_asynchronous_stream_and_batch(gateway: Served, key: str) -> None:
    model = chat(gateway, key)
    text = "".join([chunk.text async for chunk in model.astream("Say hello.")])
    assert [one.text for one in await model.abatch(["Say hello."] * 5)] == [text] * 5


def test_tools_are_called_and_answered(gateway: Served, key: str) -> None:
    model = chat(gateway, key, "pair").bind_tools([weather, clock])
    question = HumanMessage("How will the weather be, and when?")
    asked = model.invoke([question])
    assert [call["name"] for call in asked.tool_calls] == ["weather", "clock"]
    assert not asked.invalid_tool_calls
    results: list[ToolMessage] = [
        {"weather": weather, "clock": clock}[call["name"]].invoke(call) for call in asked.tool_calls
    ]
    assert results[1].content == "noon"
    assert model.invoke([question, asked, *results]).text
    streamed: AIMessageChunk | None = None
    for chunk in model.stream([question]):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    assert [call["args"] for call in streamed.tool_calls] == [call["args"] for call in asked.tool_calls]


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str
    rating: int


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(gateway: Served, key: str, method: str) -> None:
    model = chat(gateway, key).with_structured_output(Joke, method=method)  # type: ignore[arg-type]
    assert isinstance(model.invoke("Tell a joke."), Joke)


def test_embeddings(gateway: Served, key: str) -> None:
    # LangChain would count tokens with a vocabulary that it downloads; texts go as they are.
    embeddings = OpenAIEmbeddings(
        base_url=gateway.base_url, api_key=SecretStr(key), model="embed", check_embedding_ctx_length=False
    )
    first, second = embeddings.embed_documents(["one", "two"])
    assert len(first) == len(second) == 1536
    assert first != second
    assert embeddings.embed_query("one") == first


def test_errors_are_those_of_the_sdk(gateway: Served, key: str) -> None:
    with pytest.raises(openai.AuthenticationError):
        chat(gateway, "sk-wrong").invoke("Say hello.")
    with pytest.raises(openai.PermissionDeniedError, match="may not use"):
        chat(gateway, key, "mock/gpt-4o").invoke("Say hello.")
    with pytest.raises(openai.NotFoundError):
        chat(gateway, gateway.key("all"), "nothing").invoke("Say hello.")
