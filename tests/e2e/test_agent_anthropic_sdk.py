"""Anthropic's SDK as coding agents use it: a tool, thinking that goes round with its turn, and an answer that bears
the name of the model that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from played import SAID, UPSTREAMS, played_gateway, player
from served import Served

TOOL: Any = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
BUDGET: Any = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    players = {"tool": player("weather", {"city": "Oslo"}, reasoning=5)}
    with played_gateway(tmp_path_factory.mktemp("gateway"), players) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key("sdk"), max_retries=0) as made:
        yield made


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_thinking_goes_round_with_its_tool(
    client: anthropic.Anthropic, gateway: Served, upstream: str, streamed: bool
) -> None:
    model = f"tool-{upstream}"
    turns: list[Any] = [{"role": "user", "content": "How will the weather be?"}]

    def ask() -> Any:
        fields: Any = {
            "model": model,
            "max_tokens": 4000,
            "messages": turns,
            "tools": [TOOL],
            "thinking": BUDGET,
        }
        if not streamed:
            return client.messages.create(**fields)
        with client.messages.stream(**fields) as stream:
            return stream.get_final_message()

    asked = ask()
    assert asked.model == model, "a client that sees another model's turn sends it back without its thinking"
    kinds = [block.type for block in asked.content]
    assert kinds[-1] == "tool_use"
    if upstream != "chat":  # OpenAI's chat tells how much was thought, not what
        assert {"thinking", "redacted_thinking"} & set(kinds)
    call = asked.content[-1]
    assert (call.name, call.input, asked.stop_reason) == ("weather", {"city": "Oslo"}, "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    turns += [{"role": "assistant", "content": asked.content}, {"role": "user", "content": [result]}]
    answer = ask()
    assert (answer.model, answer.stop_reason) == (model, "end_turn")
    assert answer.content[-1].text == SAID
    assert [one["outcome"] for one in gateway.events(f"model={model}")][:2] == ["ok", "ok"]


def test_the_name_is_asked_for_in_full(client: anthropic.Anthropic) -> None:
    for name in ("anthropic/m+text=x", "anthropic/m+text=x+answer_model=m-20261122"):
        hello: Any = [{"role": "user", "content": 'Say "model": "m".'}]
        raw = client.messages.with_raw_response.create(model=name, max_tokens=50, messages=hello)
        assert raw.parse().model == name
        assert raw.json()["content"][0]["text"] == "x"
