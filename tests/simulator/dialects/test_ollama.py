"""Ollama's own client against the simulator: lines of JSON whole and streamed, tools, thinking, embeddings."""

import json

import pytest

ollama = pytest.importorskip("ollama")

from tollway.simulator.running import start_in_thread  # noqa: E402

HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


@pytest.fixture(scope="module")
def running():
    with start_in_thread() as made:
        yield made


@pytest.fixture(scope="module")
def client(running):
    return ollama.Client(host=running.simulator.origin)


def last_line(running):
    return running.simulator.bill.entries()[-1]


def test_chat(client, running):
    said = client.chat(model="llama3.2", messages=HELLO)
    assert len(said.message.content) == 128
    assert (said.done, said.done_reason) == (True, "stop")
    assert (said.prompt_eval_count, said.eval_count) == (8, 32)
    line = last_line(running)
    assert (line.endpoint, line.model, line.completion_tokens) == ("ollama.chat", "llama3.2", 32)
    assert json.loads(bytes(line.usage)) == {"prompt_eval_count": 8, "eval_count": 32}


@pytest.mark.parametrize("knobs", ["", "+split=5", "+encoding=gzip", "+pace=0", "+crlf+comments"])
def test_streams(client, running, knobs):
    lines = list(client.chat(model=f"m{knobs}+tokens=9", messages=HELLO, stream=True))
    assert len(lines) == 10
    assert len("".join(line.message.content for line in lines)) == 36
    assert [line.done for line in lines] == [False] * 9 + [True]
    assert lines[-1].eval_count == last_line(running).completion_tokens == 9


def test_thinking_and_tools(client, running):
    fields = {"model": "m+reasoning=3+parallel=2", "messages": HELLO, "tools": TOOLS, "think": True}
    whole = client.chat(**fields)
    assert [call.function.arguments for call in whole.message.tool_calls] == [{"city": "the old cat"}] * 2
    lines = list(client.chat(**fields, stream=True))
    assert "".join(line.message.thinking or "" for line in lines) == whole.message.thinking
    calls = [call for line in lines for call in line.message.tool_calls or ()]
    assert [call.function for call in calls] == [call.function for call in whole.message.tool_calls]
    assert lines[-1].eval_count == whole.eval_count == sum(last_line(running).tokens[n] for n in ["output"])
    assert last_line(running).tokens["reasoning"] == 3
    result = {"role": "tool", "tool_name": "weather", "content": "Sunny"}
    turns = [*HELLO, whole.message, result]
    assert client.chat(model="m", messages=turns, tools=TOOLS).message.content


def test_options_and_formats(client):
    said = client.chat(model="m", messages=HELLO, options={"num_predict": 3})
    assert (said.done_reason, len(said.message.content)) == ("length", 12)
    said = client.chat(model="m+text=one%20STOP", messages=HELLO, options={"stop": ["STOP"]})
    assert said.message.content == "one "
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    assert client.chat(model="m", messages=HELLO, format=schema).message.content == '{"age":7}'
    assert json.loads(client.chat(model="m", messages=HELLO, format="json").message.content)


def test_generate(client):
    assert len(client.generate(model="m", prompt="Hello").response) == 128
    assert "".join(one.response for one in client.generate(model="m+tokens=3", prompt="Hello", stream=True))


def test_embeddings(client, running):
    said = client.embed(model="nomic-embed-text", input=["a cat", "a dog"], dimensions=64)
    assert [len(one) for one in said.embeddings] == [64, 64]
    assert said.prompt_eval_count == last_line(running).prompt_tokens == 4
    assert len(client.embeddings(model="m", prompt="a cat").embedding) == 768


def test_lists(client):
    assert client.list().models[0].model == "llama3.2:latest"
    assert "tools" in client.show("llama3.2").capabilities
    assert client.ps().models == []


def test_errors(client, running):
    for suffix, status in (("+status=500", 500), ("+known_only", 404), ("+no_such_knob", 400)):
        with pytest.raises(ollama.ResponseError) as caught:
            client.chat(model="m" + suffix, messages=HELLO)
        assert caught.value.status_code == status
    with pytest.raises(ollama.ResponseError, match="invalid role"):
        client.chat(model="m", messages=[{"role": "robot", "content": "x"}])
    with pytest.raises(ollama.ResponseError, match="stopped"):
        list(client.chat(model="m+error_event=3", messages=HELLO, stream=True))
    line = last_line(running)
    assert (line.complete, line.usage, line.completion_tokens) == (False, None, 3)


def test_a_line_cut_short(client):
    with pytest.raises(json.JSONDecodeError):
        list(client.chat(model="m+malformed=json", messages=HELLO, stream=True))
