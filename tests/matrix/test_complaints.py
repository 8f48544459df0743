"""What users of gateways complain of where dialects meet, each as a test through the official SDKs."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from asking import CALLED, Ask
from google.genai import errors
from scenarios import GIVEN, TEXT
from stand import CLIENTS, UPSTREAMS, Stand, Upstream

BOTH = Ask(tools=("get_weather", "get_tide"))
clients = pytest.mark.parametrize("client", CLIENTS)
upstreams = pytest.mark.parametrize("upstream", UPSTREAMS.values(), ids=UPSTREAMS)


STREAMS = "matrix/test_complaints_of_streams.py"
HERE = "matrix/test_complaints.py"

COMPLAINTS = {
    # Calls of tools in streams.
    "litellm-7621 parallel calls fused": (STREAMS, "test_fragments_of_parallel_calls_find_their_call"),
    "litellm-10034 parallel calls fused again": (HERE, "test_parallel_calls_of_a_stream_are_not_fused"),
    "litellm-33678 every index zero": (STREAMS, "test_calls_that_all_say_index_zero_stay_apart"),
    "litellm-37792 shows a turn later": (HERE, "test_a_call_answered_a_turn_later_still_finds_its_result"),
    "litellm-21337 index of a bridged response": (
        HERE,
        "test_items_of_a_translated_response_stream_have_places_of_their_own",
    ),
    "litellm-16194 calls of gemini": (HERE, "test_parallel_calls_of_a_stream_are_not_fused"),
    "litellm-39796 ids lost on the way through": (
        STREAMS,
        "test_calls_of_the_same_dialect_pass_byte_for_byte",
    ),
    "any-llm-1305 index of streamed calls": (HERE, "test_parallel_calls_of_a_stream_are_not_fused"),
    "qwen-agent-943 interleaved fragments": (STREAMS, "test_fragments_of_parallel_calls_find_their_call"),
    # Claude Code and the Messages API.
    "litellm-20021 new beta flag": (HERE, "test_a_new_beta_flag_of_a_client_breaks_no_other_provider"),
    "litellm-22997 thinking sent to vllm": (
        HERE,
        "test_thinking_in_the_history_does_not_reach_servers_that_do_not_know_it",
    ),
    "litellm-17811 claude code at another provider": (
        "e2e/test_agent_clis.py",
        "test_claude_code_reads_a_file",
    ),
    "bifrost-1479 budget below the least": (HERE, "test_a_thinking_budget_below_the_least_one_is_no_error"),
    "bifrost-2446 thinking block at vllm": (
        HERE,
        "test_thinking_in_the_history_does_not_reach_servers_that_do_not_know_it",
    ),
    "bifrost-3511 payload of tools": (STREAMS, "test_tools_arrive_as_they_were_described"),
    "bifrost-6342 replayed thinking": (HERE, "test_replayed_thinking_is_handed_on_unchanged"),
    "bifrost-1354 empty arguments": (HERE, "test_a_call_with_empty_arguments_is_an_empty_object"),
    "bifrost-1354 empty arguments, streamed": (
        STREAMS,
        "test_a_streamed_call_without_a_word_of_arguments_is_an_empty_object",
    ),
    "portkey-1417 anthropic sdk at bedrock": (HERE, "test_messages_are_served_from_every_provider"),
    "portkey-1232 wrong endpoint of bedrock": (HERE, "test_bedrock_is_asked_at_converse_alone"),
    "langwatch-6184 hangs with status 200": (
        HERE,
        "test_a_stream_that_breaks_off_does_not_pass_for_an_answer",
    ),
    "aigatewaybench streamed messages are a 500": (HERE, "test_messages_are_served_from_every_provider"),
    # Codex and the Responses API.
    "litellm-24959 socket without a model": (STREAMS, "test_a_socket_for_responses_is_refused_at_once"),
    "litellm-9146 no bridge": (HERE, "test_responses_are_served_from_every_provider"),
    "litellm-13130 bridge not applied": (HERE, "test_responses_are_served_from_every_provider"),
    "litellm-10925 bridge not applied": (HERE, "test_responses_are_served_from_every_provider"),
    "litellm-39559 another tenant's response": (
        "e2e/test_stored_responses.py",
        "test_what_is_anothers_does_not_exist",
    ),
    "openhands-sdk-660 codex through a gateway": ("e2e/test_agent_clis.py", "test_codex_runs_a_command"),
    # What the answer to them all has to keep.
    "arguments are checked on the way out": (
        HERE,
        "test_broken_arguments_in_the_history_are_refused_with_their_turn",
    ),
    "any split of the bytes is the same": (
        HERE,
        "test_a_stream_torn_anywhere_on_the_wire_is_the_same_answer",
    ),
    "unknown fields pass": (HERE, "test_fields_newer_than_the_gateway_reach_a_provider_of_the_same_dialect"),
}
"""What was complained of elsewhere, by project and number, and the test that holds it here."""


@pytest.mark.parametrize("complaint", COMPLAINTS)
def test_every_complaint_has_its_test(complaint: str) -> None:
    file, name = COMPLAINTS[complaint]
    source = (Path(__file__).parents[1] / file).read_text()
    names = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    names |= {node.name for node in ast.parse(source).body if isinstance(node, ast.AsyncFunctionDef)}
    assert name in names


def data_of(raw: bytes) -> list[Any]:
    found = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(one) for one in found if one != "[DONE]"]


@upstreams
def test_parallel_calls_of_a_stream_are_not_fused(stand: Stand, upstream: Upstream) -> None:
    made = stand.ask("chat", upstream.named("parallel", parallel=2, events=3), BOTH, True)
    deltas = [
        call
        for chunk in data_of(made.raw)
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls") or ()
    ]
    assert {call["index"] for call in deltas} == {0, 1}
    for index, name in enumerate(BOTH.tools):
        mine = [call for call in deltas if call["index"] == index]
        assert [call["function"]["name"] for call in mine if call["function"].get("name")] == [name]
        assert len([call["id"] for call in mine if call.get("id")]) == 1
        joined = "".join(call["function"].get("arguments") or "" for call in mine)
        assert json.loads(joined) == CALLED[name]


@upstreams
def test_items_of_a_translated_response_stream_have_places_of_their_own(
    stand: Stand, upstream: Upstream
) -> None:
    made = stand.ask("responses", upstream.named("parallel", parallel=2, events=3), BOTH, True)
    events = data_of(made.raw)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    added = [event for event in events if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == list(range(len(added)))
    assert len({event["item"]["id"] for event in added}) == len(added)
    items = {event["output_index"]: event["item"]["id"] for event in added}
    for event in events:
        if "item_id" in event:
            assert event["item_id"] == items[event["output_index"]]


@clients
@upstreams
def test_a_call_answered_a_turn_later_still_finds_its_result(
    stand: Stand, upstream: Upstream, client: str
) -> None:
    """Results go back in the other order: they must be told apart by id, not by place."""
    speaks = stand.clients[client]
    model = upstream.named("parallel", parallel=2, text=TEXT)
    first = stand.ask(client, model, BOTH, True)
    first_turn = list(first.heard.turn)
    first.heard.calls.reverse()
    turns = [*speaks.open(BOTH), *first_turn, *speaks.results(first.heard, GIVEN)]
    second = stand.ask(client, model, BOTH, True, turns)
    assert second.heard.text == TEXT


def _conversation(stand: Stand, client: str, first: Upstream, second: Upstream) -> None:
    ask = Ask(thinking=True, tools=("get_weather",))
    speaks = stand.clients[client]
    began = stand.ask(client, first.named("thinking", reasoning=12), ask, True)
    assert began.heard.calls
    turns = [*speaks.open(ask), *began.heard.turn, *speaks.results(began.heard, GIVEN)]
    ended = stand.ask(client, second.named("thinking", text=TEXT, reasoning=12), ask, False, turns)
    assert ended.heard.text == TEXT


@clients
@upstreams
def test_a_conversation_with_thinking_may_go_on_at_another_provider(
    stand: Stand, upstream: Upstream, client: str
) -> None:
    """A fallback in the middle of a session: one maker's proofs are refused by every other."""
    for other in UPSTREAMS.values():
        if (client, upstream.name, other.name) == ("messages", "chat", "anthropic"):
            continue  # relayed as it is, with thoughts that nobody told the client: Claude refuses the turn
        _conversation(stand, client, upstream, other)


def _served(stand: Stand, client: str, upstream: Upstream) -> None:
    for stream in (False, True):
        made = stand.ask(client, upstream.named("text", text=TEXT), Ask(), stream)
        assert made.heard.text == TEXT
        called = stand.ask(client, upstream.named("parallel", parallel=2), BOTH, stream)
        assert [(call.name, call.arguments) for call in called.heard.calls] == list(CALLED.items())


@upstreams
def test_messages_are_served_from_every_provider(stand: Stand, upstream: Upstream) -> None:
    _served(stand, "messages", upstream)


@upstreams
def test_responses_are_served_from_every_provider(stand: Stand, upstream: Upstream) -> None:
    """Also where the provider has heard of nothing but chats."""
    _served(stand, "responses", upstream)
    asked = stand.simulator.received[-1].path.endswith(b"/responses")
    assert asked is (upstream.format == "openai.responses")


@clients
def test_bedrock_is_asked_at_converse_alone(stand: Stand, client: str) -> None:
    for stream in (False, True):
        stand.ask(client, UPSTREAMS["bedrock"].named("text", text=TEXT), Ask(), stream)
        path = stand.simulator.received[-1].path
        assert path.endswith(b"/converse-stream" if stream else b"/converse")


def test_replayed_thinking_is_handed_on_unchanged(stand: Stand) -> None:
    ask = Ask(thinking=True, tools=("get_weather",))
    claude = UPSTREAMS["anthropic"]
    speaks = stand.clients["messages"]
    first = stand.ask("messages", claude.named("thinking", reasoning=12), ask, True)
    turns = [*speaks.open(ask), *first.heard.turn, *speaks.results(first.heard, GIVEN)]
    second = stand.ask("messages", claude.named("thinking", text=TEXT), ask, False, turns)
    assert second.sent["messages"] == turns
    assert turns[1]["content"][0]["type"] == "thinking"


def test_thinking_in_the_history_does_not_reach_servers_that_do_not_know_it(stand: Stand) -> None:
    thought = {"type": "thinking", "thinking": "The moon pulls.", "signature": "c2lnbmVk"}
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "Hello"}]},
        {"role": "user", "content": "And now?"},
    ]
    for name in ("chat", "cohere", "ollama"):
        made = stand.ask("messages", UPSTREAMS[name].named("text", text=TEXT), Ask(), False, turns)
        assert made.heard.text == TEXT
        assert "c2lnbmVk" not in json.dumps(made.sent)
        assert '"thinking"' not in json.dumps(made.sent["messages"])


def test_a_new_beta_flag_of_a_client_breaks_no_other_provider(stand: Stand) -> None:
    sdk = stand.clients["messages"].sdk  # type: ignore[attr-defined]
    flag = "never-heard-of-2027-01-01"
    for upstream in UPSTREAMS.values():
        sdk.messages.create(
            model=upstream.named("text", text=TEXT),
            max_tokens=99,
            messages=[{"role": "user", "content": "Hi"}],
            extra_headers={"anthropic-beta": flag},
        )
        received = stand.simulator.received[-1]
        sent = received.headers.get(b"anthropic-beta") == flag.encode()
        assert sent is (upstream.name == "anthropic")
        assert flag.encode() not in received.body


@pytest.mark.parametrize("name", ["anthropic", "bedrock"])
def test_a_thinking_budget_below_the_least_one_is_no_error(stand: Stand, name: str) -> None:
    sdk = stand.clients["gemini"].sdk  # type: ignore[attr-defined]
    answer = sdk.models.generate_content(
        model=UPSTREAMS[name].named("thinking", text=TEXT),
        contents="Hi",
        config={"thinking_config": {"thinking_budget": 500}, "max_output_tokens": 4096},
    )
    assert answer.text == TEXT
    assert b"1024" in stand.simulator.received[-1].body


@clients
@upstreams
def test_a_call_with_empty_arguments_is_an_empty_object(
    stand: Stand, upstream: Upstream, client: str
) -> None:
    speaks = stand.clients[client]
    ask = Ask(tools=("get_tide",))
    for stream in (False, True):
        first = stand.ask(client, upstream.named("tools", arguments="{}"), ask, stream)
        assert [(call.name, call.arguments) for call in first.heard.calls] == [("get_tide", {})]
        turns = [*speaks.open(ask), *first.heard.turn, *speaks.results(first.heard, GIVEN)]
        assert stand.ask(client, upstream.named("tools", text=TEXT), ask, stream, turns).heard.text == TEXT


@pytest.mark.parametrize("name", ["anthropic", "gemini", "bedrock", "cohere", "ollama"])
def test_broken_arguments_in_the_history_are_refused_with_their_turn(stand: Stand, name: str) -> None:
    """A call that was cut off is replayed for ever otherwise, and every provider gives another reason."""
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_tide", "arguments": '{"harbour": "Br'},
    }
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Low"},
    ]
    with pytest.raises(openai.BadRequestError) as refused:
        stand.ask("chat", UPSTREAMS[name].named("text"), Ask(tools=("get_tide",)), False, turns)
    assert re.search(r"messages[.\[]1\b", refused.value.message)


@clients
@upstreams
def test_a_stream_that_breaks_off_does_not_pass_for_an_answer(
    stand: Stand, upstream: Upstream, client: str
) -> None:
    """Neither silence nor a tidy end after half an answer: the SDK must raise."""
    with pytest.raises((openai.APIError, anthropic.APIError, errors.APIError)):
        stand.ask(client, upstream.named("text", events=8, error_event=4), Ask(), True)


@clients
@upstreams
def test_a_stream_torn_anywhere_on_the_wire_is_the_same_answer(
    stand: Stand, upstream: Upstream, client: str
) -> None:
    made = stand.ask(client, upstream.named("parallel", parallel=2, split=7), BOTH, True)
    assert [(call.name, call.arguments) for call in made.heard.calls] == list(CALLED.items())


def test_fields_newer_than_the_gateway_reach_a_provider_of_the_same_dialect(stand: Stand) -> None:
    sdk = stand.clients["chat"].sdk  # type: ignore[attr-defined]
    new = {"brand_new_field": {"deep": [1, 2.50, None]}}
    model = UPSTREAMS["chat"].named("text", text=TEXT)
    sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], extra_body=new)
    assert json.loads(stand.simulator.received[-1].body)["brand_new_field"] == new["brand_new_field"]


def test_usage_of_a_stream_is_billed_though_nobody_asked_for_it(stand: Stand) -> None:
    """The usage chunk is fetched for the ledger and kept from the client that did not want it."""
    sdk = stand.clients["chat"].sdk  # type: ignore[attr-defined]
    model = UPSTREAMS["chat"].named("text", text=TEXT, reasoning=30)
    before = stand.billed
    chunks = list(
        sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], stream=True)
    )
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    (line,) = stand.lines_since(before, 1)
    (event,) = [
        one
        for one in stand.events()
        if one["request_id"] == stand.clients["chat"].tap.headers["x-tollway-request-id"]
    ]
    assert event["usage"]["output"] == line.completion_tokens
    assert event["usage"]["reasoning"] == 30
    assert event["estimated"] is False


@pytest.mark.parametrize("name", ["gemini", "cohere", "ollama"])
def test_reasoning_of_one_provider_is_not_looked_up_at_another(stand: Stand, name: str) -> None:
    """An item that a provider has not made is not found there, and the whole turn is refused."""
    ask = Ask(thinking=True)
    speaks = stand.clients["responses"]
    for stream in (False, True):
        first = stand.ask("responses", UPSTREAMS[name].named("thinking", reasoning=12), ask, stream)
        assert first.heard.thinking
        turns = [*speaks.open(ask), *first.heard.turn, *speaks.open(ask)]
        second = stand.ask("responses", UPSTREAMS["resp"].named("thinking", text=TEXT), ask, stream, turns)
        assert [item["type"] for item in second.sent["input"]] == ["message"] * 3
        assert "tollway" not in json.dumps(second.sent)
