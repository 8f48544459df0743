"""Instructor: structured output by tool and by schema, over OpenAI's and Anthropic's clients."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import instructor
import openai
import pytest
from played import UPSTREAMS, played_gateway, player
from pydantic import BaseModel, Field
from served import Served


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with played_gateway(tmp_path_factory.mktemp("gateway"), {"any": player()}) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Served) -> str:
    return gateway.key("instructor")


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int = Field(ge=0, le=150)
    nicknames: list[str] = []


ASK = [{"role": "user", "content": "Ada is 36."}]
OPENAI = [
    instructor.Mode.TOOLS,
    instructor.Mode.TOOLS_STRICT,
    instructor.Mode.JSON_SCHEMA,
    instructor.Mode.RESPONSES_TOOLS,
]


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("mode", OPENAI, ids=lambda mode: mode.value)
def test_over_openai(gateway: Served, key: str, upstream: str, mode: instructor.Mode) -> None:
    with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as sdk:
        client = instructor.from_openai(sdk, mode=mode)
        made = client.chat.completions.create(
            model=f"any-{upstream}", response_model=Person, messages=ASK, max_retries=0
        )
    assert isinstance(made, Person)


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_over_anthropic(gateway: Served, key: str, upstream: str) -> None:
    with anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0) as sdk:
        client = instructor.from_anthropic(sdk, mode=instructor.Mode.ANTHROPIC_TOOLS)
        made = client.messages.create(
            model=f"any-{upstream}", response_model=Person, messages=ASK, max_tokens=400, max_retries=0
        )
    assert isinstance(made, Person)


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_as_it_grows(gateway: Served, key: str, upstream: str) -> None:
    with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as sdk:
        client = instructor.from_openai(sdk)
        seen = list(
            client.chat.completions.create_partial(
                model=f"any-{upstream}", response_model=Person, messages=ASK, max_retries=0
            )
        )
    assert len(seen) > 1
    assert seen[-1].name
    assert isinstance(seen[-1].age, int)
