"""What the messages API refuses, in the vendor's words."""

import pytest

HELLO = {"role": "user", "content": "Hello"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
MARKED = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}


def said(*turns):
    return [{"role": role, "content": content} for role, content in turns]


@pytest.fixture
def refused(ask):
    async def refuse(drop=(), **fields):
        body = {"model": "m", "max_tokens": 2000, "messages": [HELLO], **fields}
        for name in drop:
            del body[name]
        reply = await ask(body, path="/v1/messages", x_api_key="k", anthropic_version="2023-06-01")
        error = reply.json()
        if reply.status == 200:
            return None
        assert reply.status == 400
        assert error["error"]["type"] == "invalid_request_error"
        return error["error"]["message"]

    return refuse


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"drop": ["max_tokens"]}, "max_tokens: Field required"),
        ({"drop": ["messages"]}, "messages: Field required"),
        ({"frequency_penalty": 1}, "frequency_penalty: Extra inputs are not permitted"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": [{"role": "system", "content": "x"}]}, 'messages: Unexpected role "system"'),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: Input should be"),
        ({"messages": said(("user", ""))}, "messages.0: all messages must have non-empty content"),
        (
            {"messages": said(("user", [{"type": "text", "text": ""}]))},
            "messages: text content blocks must be non-empty",
        ),
        (
            {"messages": said(("user", [{"type": "text", "text": "x", "foo": 1}]))},
            "messages.0.content.0.text.foo: Extra inputs are not permitted",
        ),
        ({"messages": [{**HELLO, "name": "x"}]}, "messages.0.name: Extra inputs are not permitted"),
        (
            {"messages": [HELLO, *said(("assistant", "So "))]},
            "messages: final assistant content cannot end with trailing whitespace",
        ),
        (
            {"messages": [HELLO, *said(("assistant", [CALL]), ("user", "then?"))]},
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1",
        ),
        (
            {"messages": [HELLO, *said(("assistant", [CALL]))]},
            "messages.1: `tool_use` ids were found without",
        ),
        (
            {"messages": said(("user", [RESULT]))},
            "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1",
        ),
        (
            {
                "messages": [
                    HELLO,
                    *said(("assistant", [CALL]), ("user", [{"type": "text", "text": "x"}, RESULT])),
                ]
            },
            "messages.1: `tool_use` ids were found without",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1023}},
            "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            "`max_tokens` must be greater than `thinking.budget_tokens`",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}, "temperature": 0.5},
            "`temperature` may only be set to 1",
        ),
        (
            {
                "thinking": {"type": "enabled", "budget_tokens": 1024},
                "tools": [TOOL],
                "tool_choice": {"type": "any"},
            },
            "Thinking may not be enabled when tool_choice forces tool use",
        ),
        ({"temperature": 1.5}, "temperature: range: 0..1"),
        ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [{**TOOL, "name": "a b"}]}, "tools.0.custom.name: String should match pattern"),
        ({"tools": [TOOL, TOOL]}, "tools: Tool names must be unique."),
        ({"tool_choice": {"type": "auto"}}, "tool_choice may only be specified while providing tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "Tool 'g' not found"),
        (
            {"messages": said(("user", [MARKED] * 5))},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        ({"system": [{"type": "text", "text": ""}]}, "system: text content blocks must be non-empty"),
    ],
)
async def test_refusals(refused, fields, message):
    assert (await refused(**fields)).startswith(message)


@pytest.mark.parametrize(
    "messages",
    [
        [HELLO, HELLO],
        said(("user", "a"), ("assistant", "b"), ("assistant", "c"), ("user", "d")),
        [HELLO, *said(("assistant", [CALL]), ("user", [RESULT, {"type": "text", "text": "x"}]))],
        [HELLO, *said(("assistant", [CALL]), ("user", [RESULT]), ("user", "more"))],
        [HELLO, *said(("assistant", "So"))],
        said(("user", [MARKED] * 4)),
    ],
)
async def test_what_is_taken(refused, messages):
    assert await refused(messages=messages, tools=[TOOL]) is None


async def test_thinking_without_a_budget_binds_less(refused):
    turns = [HELLO, *said(("assistant", [CALL]), ("user", [RESULT]))]
    forced = {"tools": [TOOL], "tool_choice": {"type": "any"}}
    assert await refused(messages=turns, thinking={"type": "adaptive"}, **forced) is None
    manual = {"type": "enabled", "budget_tokens": 1024}
    assert "Expected `thinking`" in await refused(messages=turns, thinking=manual, tools=[TOOL])


async def test_the_system_between_the_messages(ask):
    turns = [HELLO, {"role": "system", "content": "Be brief."}]

    async def status(messages, beta):
        headers = {"x_api_key": "k", "anthropic_version": "2023-06-01", "anthropic_beta": beta}
        body = {"model": "m", "max_tokens": 20, "messages": messages}
        return (await ask(body, path="/v1/messages", **headers)).status

    assert await status(turns, "effort-2025-11-24,mid-conversation-system-2026-04-07") == 200
    assert await status(turns, "effort-2025-11-24") == 400
    assert await status(turns[::-1], "mid-conversation-system-2026-04-07") == 400
