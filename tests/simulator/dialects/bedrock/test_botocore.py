"""AWS's own client against the simulator: it signs, reads both kinds of answer and checks every checksum."""

import json
from base64 import b64encode

import pytest

session = pytest.importorskip("botocore.session")
from botocore.config import Config  # noqa: E402
from botocore.exceptions import ClientError, EventStreamError  # noqa: E402

from tollway.simulator.running import start_in_thread  # noqa: E402
from tollway.simulator.server import AWS_KEYS  # noqa: E402

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HELLO = [{"role": "user", "content": [{"text": "Hello"}]}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}]}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


@pytest.fixture(scope="module")
def running():
    with start_in_thread() as made:
        yield made


def client_of(running, key=AWS_KEYS[0], secret=AWS_KEYS[1], token=None):
    return session.Session().create_client(
        "bedrock-runtime",
        region_name="eu-central-1",
        endpoint_url=running.simulator.origin,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"max_attempts": 1, "mode": "standard"}),
    )


@pytest.fixture(scope="module")
def client(running):
    return client_of(running)


def last_line(running):
    return running.simulator.bill.entries()[-1]


def gathered(stream):
    """A stream's events as the content it told, with stop reason and usage."""
    blocks, stop, usage = {}, None, None
    for event in stream:
        if "contentBlockStart" in event:
            start = event["contentBlockStart"]
            blocks[start["contentBlockIndex"]] = {"toolUse": {**start["start"]["toolUse"], "input": ""}}
        elif "contentBlockDelta" in event:
            one = event["contentBlockDelta"]
            ((kind, value),) = one["delta"].items()
            block = blocks.setdefault(one["contentBlockIndex"], {})
            if kind == "text":
                block["text"] = block.get("text", "") + value
            elif kind == "toolUse":
                block["toolUse"]["input"] += value["input"]
            elif "redactedContent" in value:
                block["reasoningContent"] = value
            elif kind == "reasoningContent":
                held = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
                ((name, piece),) = value.items()
                held[name] = held.get(name, "") + piece
        elif "messageStop" in event:
            stop = event["messageStop"]["stopReason"]
        elif "metadata" in event:
            usage = event["metadata"]["usage"]
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return [block for _, block in sorted(blocks.items())], stop, usage


def test_converse(client, running):
    said = client.converse(modelId=MODEL, messages=HELLO)
    assert len(said["output"]["message"]["content"][0]["text"]) == 128
    assert said["stopReason"] == "end_turn"
    usage = said["usage"]
    assert (usage["inputTokens"], usage["outputTokens"], usage["totalTokens"]) == (8, 32, 40)
    assert said["ResponseMetadata"]["RequestId"]
    line = last_line(running)
    assert (line.endpoint, line.model) == ("converse", MODEL)


def test_caches(client, running):
    model = MODEL + "+prompt_tokens=1000+cached=600+cache_write=100+cache_write_1h=50"
    said = client.converse(modelId=model, messages=HELLO)
    _, _, usage = gathered(client.converse_stream(modelId=model, messages=HELLO)["stream"])
    assert usage == said["usage"]
    assert (usage["inputTokens"], usage["cacheReadInputTokens"], usage["cacheWriteInputTokens"]) == (
        250,
        600,
        150,
    )
    assert usage["totalTokens"] == 1032
    tokens = last_line(running).tokens
    assert (tokens["input"], tokens["cache_write_5m"], tokens["cache_write_1h"]) == (250, 100, 50)


@pytest.mark.parametrize("more", [{}, {"toolConfig": TOOLS}])
def test_whole_and_streamed_say_the_same(client, more):
    fields = {
        "modelId": "m+parallel=3+reasoning=5+redacted",
        "messages": HELLO,
        "additionalModelRequestFields": THINKING,
        **more,
    }
    whole = client.converse(**fields)
    content, stop, usage = gathered(client.converse_stream(**fields)["stream"])
    expected = whole["output"]["message"]["content"]
    for block in [*content, *expected]:
        block.get("toolUse", {}).pop("toolUseId", None)
    assert content == expected
    assert (stop, usage) == (whole["stopReason"], whole["usage"])
    assert stop == ("tool_use" if more else "end_turn")
    assert len(content) == (5 if more else 3)


@pytest.mark.parametrize("knobs", ["+split=7", "+pace=0", "+crlf+comments", "+obfuscation"])
def test_streams(client, running, knobs):
    stream = client.converse_stream(modelId=f"m{knobs}+tokens=9", messages=HELLO)["stream"]
    content, _, usage = gathered(stream)
    assert len(content[0]["text"]) == 36
    assert usage["outputTokens"] == last_line(running).completion_tokens == 9


def test_a_tool_loop_with_thinking(client):
    fields = {"modelId": "m", "toolConfig": TOOLS, "additionalModelRequestFields": THINKING}
    message = client.converse(messages=HELLO, **fields)["output"]["message"]
    call = message["content"][1]["toolUse"]
    assert call["input"] == {"city": "the old cat"}
    result = {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": "Sunny"}]}}
    turns = [*HELLO, message, {"role": "user", "content": [result]}]
    assert "text" in client.converse(messages=turns, **fields)["output"]["message"]["content"][1]
    message["content"][0]["reasoningContent"]["reasoningText"]["signature"] = "bm8="
    with pytest.raises(client.exceptions.ValidationException, match="Invalid `signature`"):
        client.converse(messages=turns, **fields)


def test_structured_output(client):
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    form = {"type": "json_schema", "structure": {"jsonSchema": {"schema": json.dumps(schema), "name": "x"}}}
    said = client.converse(modelId="m", messages=HELLO, outputConfig={"textFormat": form})
    assert said["output"]["message"]["content"] == [{"text": '{"age":7}'}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": [HELLO[0], HELLO[0]]}, "must alternate"),
        ({"messages": [{"role": "assistant", "content": [{"text": "x"}]}]}, "must start with a user message"),
        ({"messages": [{"role": "user", "content": [{"text": " "}]}]}, "is blank"),
        ({"messages": [{"role": "user", "content": []}]}, "is empty"),
        (
            {
                "toolConfig": TOOLS,
                "messages": [
                    *HELLO,
                    {
                        "role": "assistant",
                        "content": [{"toolUse": {"toolUseId": "t1", "name": "f", "input": {}}}],
                    },
                    *HELLO,
                ],
            },
            r"Expected toolResult blocks at messages.2.content for the following Ids: t1",
        ),
        (
            {
                "messages": [
                    *HELLO,
                    {
                        "role": "assistant",
                        "content": [{"toolUse": {"toolUseId": "t1", "name": "f", "input": {}}}],
                    },
                    {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": []}}]},
                ],
            },
            "toolConfig field must be defined",
        ),
        (
            {"inferenceConfig": {"temperature": 1.0, "maxTokens": 1}, "messages": [*HELLO, *HELLO]},
            "must alternate",
        ),
    ],
)
def test_refusals(client, fields, message):
    with pytest.raises(client.exceptions.ValidationException, match=message):
        client.converse(**{"modelId": "m", "messages": HELLO, **fields})


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("+status=403", "AccessDeniedException"),
        ("+known_only", "ResourceNotFoundException"),
        ("+status=408", "ModelTimeoutException"),
        ("+status=424", "ModelErrorException"),
        ("+status=429", "ThrottlingException"),
        ("+status=429+error_type=ModelNotReadyException", "ModelNotReadyException"),
        ("+status=500", "InternalServerException"),
        ("+status=503", "ServiceUnavailableException"),
    ],
)
def test_errors_are_the_clients_own(client, suffix, kind):
    with pytest.raises(getattr(client.exceptions, kind)):
        client.converse(modelId="m" + suffix, messages=HELLO)


@pytest.mark.parametrize("kind", ["modelStreamErrorException", "throttlingException"])
def test_an_exception_in_the_middle_of_a_stream(client, running, kind):
    model = f"m+error_event=4+error_type={kind}"
    with pytest.raises(EventStreamError, match=kind):
        list(client.converse_stream(modelId=model, messages=HELLO)["stream"])
    line = last_line(running)
    assert (line.complete, line.usage, line.completion_tokens) == (False, None, 3)


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"secret": "another"}, "InvalidSignatureException"),
        ({"key": "AKIDOTHER"}, "UnrecognizedClientException"),
    ],
)
def test_a_wrong_signature(running, keys, kind):
    with pytest.raises(ClientError) as caught:
        client_of(running, **keys).converse(modelId=MODEL, messages=HELLO)
    assert caught.value.response["Error"]["Code"] == kind
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_names_that_need_encoding_and_session_tokens(running):
    name = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-x y-v1:0"
    client_of(running, token="session/token==").converse(modelId=name, messages=HELLO)
    assert last_line(running).model == name


def test_invoke(client, running):
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    reply = client.invoke_model(modelId=MODEL, body=json.dumps(body))
    said = json.loads(reply["body"].read())
    assert said["usage"]["output_tokens"] == 32
    assert (last_line(running).endpoint, last_line(running).id) == ("invoke", said["id"])
    stream = client.invoke_model_with_response_stream(modelId=MODEL, body=json.dumps(body))["body"]
    events = [json.loads(event["chunk"]["bytes"]) for event in stream]
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
    assert events[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] == 32
    with pytest.raises(EventStreamError):
        list(
            client.invoke_model_with_response_stream(modelId="m+error_event=2", body=json.dumps(body))["body"]
        )
    with pytest.raises(client.exceptions.ValidationException, match="model: Extra inputs are not permitted"):
        client.invoke_model(modelId=MODEL, body=json.dumps({**body, "model": "x"}))
    counted = {"invokeModel": {"body": json.dumps(body).encode()}}
    assert client.count_tokens(modelId=MODEL, input=counted)["inputTokens"] == 8
    assert client.count_tokens(modelId=MODEL, input={"converse": {"messages": HELLO}})["inputTokens"] == 8


def test_titan(client):
    reply = client.invoke_model(
        modelId="amazon.titan-embed-text-v2:0", body=json.dumps({"inputText": "a cat", "dimensions": 256})
    )
    said = json.loads(reply["body"].read())
    assert (len(said["embedding"]), said["inputTextTokenCount"]) == (256, 2)


def test_the_seal_of_redacted_thinking_goes_round(client):
    fields = {"modelId": "m+redacted", "additionalModelRequestFields": THINKING}
    message = client.converse(messages=HELLO, **fields)["output"]["message"]
    assert client.converse(messages=[*HELLO, message, *HELLO], **fields)["stopReason"] == "end_turn"
    message["content"][1]["reasoningContent"]["redactedContent"] = b64encode(b"ours")
    with pytest.raises(client.exceptions.ValidationException, match="Invalid `data`"):
        client.converse(messages=[*HELLO, message, *HELLO], **fields)
