import pytest

PATH = "/v1/completions"


async def test_a_whole_completion(simulator, ask):
    said = (await ask({"model": "m", "prompt": "x" * 8}, PATH)).json()
    assert said["object"] == "text_completion"
    assert said["id"].startswith("cmpl-")
    (choice,) = said["choices"]
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "stop")
    assert len(choice["text"]) == 64
    assert (said["usage"]["prompt_tokens"], said["usage"]["completion_tokens"]) == (2, 16)
    assert simulator.bill.entries()[0].endpoint == "completions"


async def test_the_documented_default_limit(ask):
    said = (await ask({"model": "m+tokens=100", "prompt": "x"}, PATH)).json()
    assert (said["usage"]["completion_tokens"], said["choices"][0]["finish_reason"]) == (16, "length")
    said = (await ask({"model": "m+tokens=100", "prompt": "x", "max_tokens": 200}, PATH)).json()
    assert (said["usage"]["completion_tokens"], said["choices"][0]["finish_reason"]) == (100, "stop")


@pytest.mark.parametrize(
    ("prompt", "choices", "tokens"),
    [("four", 1, 1), (["four", "fours"], 2, 3), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3), (None, 1, 0)],
)
async def test_prompts_of_every_kind(ask, prompt, choices, tokens):
    said = (await ask({"model": "m", "prompt": prompt}, PATH)).json()
    assert len(said["choices"]) == choices
    assert said["usage"]["prompt_tokens"] == tokens


async def test_a_stream(simulator, ask):
    whole = (await ask({"model": "m", "prompt": "hi", "n": 2}, PATH)).json()
    body = {"model": "m", "prompt": "hi", "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    reply = await ask(body, PATH)
    assert reply.data[-1] == "[DONE]"
    *rest, last = reply.chunks
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    for index in (0, 1):
        text = "".join(c["text"] for chunk in rest for c in chunk["choices"] if c["index"] == index)
        assert text == whole["choices"][index]["text"]
    assert simulator.bill.entries()[1].completion_tokens == 32


async def test_echo_logprobs_and_stop(simulator, ask):
    said = (await ask({"model": "m", "prompt": "Say: ", "echo": True, "logprobs": 2}, PATH)).json()
    choice = said["choices"][0]
    assert choice["text"].startswith("Say: ")
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert len(choice["logprobs"]["token_logprobs"]) == len(choice["logprobs"]["text_offset"])
    assert said["usage"]["completion_tokens"] == 16
    word = choice["text"].split()[3]
    stopped = (await ask({"model": "m", "prompt": "Say: ", "stop": word}, PATH)).json()
    assert word not in stopped["choices"][0]["text"]


async def test_running_usage(ask):
    reply = await ask({"model": "m+usage_every", "prompt": "hi", "max_tokens": 3, "stream": True}, PATH)
    assert [chunk["usage"]["completion_tokens"] for chunk in reply.chunks] == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("more", "param"),
    [({"prompt": []}, "prompt"), ({"stream_options": {}}, "stream_options"), ({"logprobs": 9}, "logprobs")],
)
async def test_what_is_not_valid(ask, more, param):
    reply = await ask({"model": "m", "prompt": "x", **more}, PATH)
    assert (reply.status, reply.json()["error"]["param"]) == (400, param)
