"""Google's SDK against the simulator: contents whole and streamed, tools and signatures, embeddings, errors."""

import io

import pytest

genai = pytest.importorskip("google.genai")
from google.genai import errors, types  # noqa: E402

from tollway.simulator.running import start_in_thread  # noqa: E402

MODEL = "gemini-2.5-flash"
WEATHER = types.FunctionDeclaration(
    name="weather",
    parameters=types.Schema(
        type="OBJECT", properties={"city": types.Schema(type="STRING"), "days": types.Schema(type="INTEGER")}
    ),
)
TOOLS = [types.Tool(function_declarations=[WEATHER])]


@pytest.fixture(scope="module")
def running():
    with start_in_thread() as made:
        yield made


@pytest.fixture(scope="module")
def client(running):
    options = types.HttpOptions(base_url=running.simulator.origin)
    with genai.Client(api_key="AIza-any", http_options=options) as made:
        yield made


def last_line(running):
    return running.simulator.bill.entries()[-1]


def test_contents(client, running):
    said = client.models.generate_content(model=MODEL, contents="Hello")
    assert len(said.text) == 128
    assert said.candidates[0].finish_reason is types.FinishReason.STOP
    assert said.model_version == MODEL
    usage = said.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.total_token_count) == (8, 32, 40)
    line = last_line(running)
    assert (line.endpoint, line.model, line.id) == ("generate_content", MODEL, said.response_id)
    assert (line.tokens["input"], line.tokens["output"]) == (8, 32)


@pytest.mark.parametrize("knobs", ["", "+crlf", "+split=5", "+encoding=gzip", "+pace=0"])
def test_streams(client, running, knobs):
    chunks = list(client.models.generate_content_stream(model=f"m{knobs}+tokens=9", contents="Hello"))
    assert len("".join(chunk.text or "" for chunk in chunks)) == 36
    assert [chunk.usage_metadata.candidates_token_count for chunk in chunks] == list(range(1, 10))
    assert [chunk.candidates[0].finish_reason for chunk in chunks[:-1]] == [None] * 8
    assert chunks[-1].candidates[0].finish_reason is types.FinishReason.STOP
    assert last_line(running).tokens["output"] == 9


def test_thoughts_caches_and_audio(client, running):
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
    model = "m+reasoning=7+prompt_tokens=100+cached=40+audio_in=10"
    said = client.models.generate_content(model=model, contents="Hello", config=config)
    thought, text = said.candidates[0].content.parts
    assert thought.thought
    assert not text.thought
    usage = said.usage_metadata
    assert (usage.thoughts_token_count, usage.candidates_token_count, usage.total_token_count) == (7, 32, 139)
    assert usage.cached_content_token_count == 40
    assert {one.modality.value: one.token_count for one in usage.prompt_tokens_details} == {
        "TEXT": 90,
        "AUDIO": 10,
    }
    tokens = last_line(running).tokens
    assert (tokens["input"], tokens["cache_read"], tokens["audio_input"]) == (50, 40, 10)
    assert (tokens["output"], tokens["reasoning"]) == (39, 7)


def test_whole_and_streamed_say_the_same(client):
    config = types.GenerateContentConfig(
        tools=TOOLS, thinking_config=types.ThinkingConfig(include_thoughts=True)
    )
    for more in ({"tools": None}, {}):
        wanted = config.model_copy(update=more)
        whole = client.models.generate_content(model="m-3+parallel=2", contents="Hello", config=wanted)
        chunks = list(
            client.models.generate_content_stream(model="m-3+parallel=2", contents="Hello", config=wanted)
        )
        parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
        for thought in (True, False):
            texts = [
                "".join(p.text or "" for p in side if bool(p.thought) is thought)
                for side in (whole.candidates[0].content.parts, parts)
            ]
            assert texts[0] == texts[1]
        calls = [part.function_call.args for part in parts if part.function_call]
        assert calls == [call.args for call in whole.function_calls or []]
        assert chunks[-1].usage_metadata == whole.usage_metadata


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_loop_with_signatures(client, streamed):
    def ask(contents):
        config = types.GenerateContentConfig(
            tools=TOOLS, automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
        )
        fields = {"model": "gemini-3-pro-preview+parallel=2", "contents": contents, "config": config}
        if not streamed:
            return list(client.models.generate_content(**fields).candidates[0].content.parts)
        return [
            part
            for chunk in client.models.generate_content_stream(**fields)
            for part in chunk.candidates[0].content.parts
        ]

    question = types.Content(role="user", parts=[types.Part(text="Weather?")])
    calls = ask([question])
    assert [part.function_call.args for part in calls] == [{"city": "the old cat", "days": 7}] * 2
    assert calls[0].thought_signature
    assert calls[1].thought_signature is None
    results = types.Content(
        role="user",
        parts=[types.Part.from_function_response(name="weather", response={"sky": "blue"}) for _ in calls],
    )
    assert ask([question, types.Content(role="model", parts=calls), results])[-1].text is not None
    bare = [part.model_copy(update={"thought_signature": None}) for part in calls]
    with pytest.raises(errors.ClientError, match="missing a thought_signature"):
        ask([question, types.Content(role="model", parts=bare), results])
    # Of earlier turns no signature is demanded.
    answered = types.Content(role="model", parts=[types.Part(text="Blue.")])
    assert ask([question, types.Content(role="model", parts=bare), results, answered, question])
    forged = [calls[0].model_copy(update={"thought_signature": b"no"}), calls[1]]
    with pytest.raises(errors.ClientError, match="signature is not valid"):
        ask([question, types.Content(role="model", parts=forged), results])


def test_structured_output(client):
    config = types.GenerateContentConfig(
        response_mime_type="application/json",
        response_schema={"type": "OBJECT", "properties": {"age": {"type": "INTEGER", "nullable": True}}},
    )
    assert client.models.generate_content(model="m", contents="Hello", config=config).text == '{"age":7}'


@pytest.mark.parametrize(
    ("model", "config", "reason"),
    [
        ("m", {"max_output_tokens": 3}, "MAX_TOKENS"),
        ("m+finish=content_filter", {}, "SAFETY"),
        ("m+text=one%20STOP", {"stop_sequences": ["STOP"]}, "STOP"),
    ],
)
def test_why_it_stopped(client, model, config, reason):
    said = client.models.generate_content(model=model, contents="Hello", config=config)
    assert said.candidates[0].finish_reason.value == reason


def test_a_blocked_prompt(client, running):
    said = client.models.generate_content(model="m+refusal", contents="Hello")
    assert said.prompt_feedback.block_reason.value == "SAFETY"
    assert not said.candidates
    (chunk,) = client.models.generate_content_stream(model="m+refusal", contents="Hello")
    assert chunk.prompt_feedback.block_reason.value == "SAFETY"
    assert last_line(running).tokens["output"] == 0


def test_candidates_grounding_and_pictures(client):
    config = {"candidate_count": 2, "response_modalities": ["TEXT", "IMAGE"]}
    said = client.models.generate_content(model="m+citations", contents="Hello", config=config)
    assert len(said.candidates) == 2
    assert said.usage_metadata.candidates_token_count == 64
    assert said.candidates[1].grounding_metadata.grounding_chunks[0].web.uri
    assert said.candidates[0].content.parts[1].inline_data.data.startswith(b"\x89PNG")


def test_counting(client, running):
    assert client.models.count_tokens(model="m", contents="Hello").total_tokens == 8
    assert last_line(running).endpoint == "count_tokens"
    assert last_line(running).prompt_tokens == 0


def test_embeddings(client, running):
    said = client.models.embed_content(
        model="gemini-embedding-001", contents=["a cat", "a dog"], config={"output_dimensionality": 64}
    )
    assert [len(one.values) for one in said.embeddings] == [64, 64]
    assert last_line(running).prompt_tokens == 4


def test_models(client):
    assert len(list(client.models.list(config={"page_size": 2}))) == 6
    assert client.models.get(model=MODEL).name == "models/" + MODEL


@pytest.mark.parametrize(
    ("suffix", "code", "status"),
    [
        ("+status=400", 400, "INVALID_ARGUMENT"),
        ("+status=403", 403, "PERMISSION_DENIED"),
        ("+known_only", 404, "NOT_FOUND"),
        ("+status=429", 429, "RESOURCE_EXHAUSTED"),
        ("+status=500", 500, "INTERNAL"),
        ("+status=503", 503, "UNAVAILABLE"),
        ("+no_such_knob", 400, "INVALID_ARGUMENT"),
    ],
)
def test_errors_are_the_sdks_own(client, suffix, code, status):
    with pytest.raises(errors.APIError) as caught:
        client.models.generate_content(model="m" + suffix, contents="Hello")
    assert (caught.value.code, caught.value.status) == (code, status)


def test_a_rate_limit_says_when_to_come_back(client):
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model="m+status=429+retry_after=7", contents="Hello")
    (detail,) = caught.value.details["error"]["details"]
    assert detail["retryDelay"] == "7s"


def test_an_error_in_the_middle_of_a_stream(client, running):
    with pytest.raises(errors.ServerError, match="overloaded"):
        list(client.models.generate_content_stream(model="m+error_event=4", contents="Hello"))
    line = last_line(running)
    assert (line.complete, line.usage, line.completion_tokens) == (False, None, 4)


async def test_the_asynchronous_client(client):
    stream = await client.aio.models.generate_content_stream(model="m+pace=1ms+tokens=5", contents="Hello")
    assert len([chunk async for chunk in stream]) == 5


def test_vertex(running):
    """The same operations below a project's path, with a bearer token."""
    import json
    import urllib.request

    path = "/v1/projects/p/locations/global/publishers/google/models/m:generateContent"
    request = urllib.request.Request(
        running.simulator.origin + path,
        json.dumps({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}).encode(),
        {"authorization": "Bearer ya29.any", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["usageMetadata"]["totalTokenCount"] == 40


def test_files_and_caches(client):
    made = client.files.upload(
        file=io.BytesIO(b"two" * 9), config={"mime_type": "text/plain", "name": "toll-9"}
    )
    assert (made.name, made.mime_type, made.size_bytes, made.state.name) == (
        "files/toll-9",
        "text/plain",
        27,
        "ACTIVE",
    )
    assert client.files.get(name=made.name).uri == made.uri
    assert made.name in [one.name for one in client.files.list()]
    with pytest.raises(errors.ClientError, match="exists already"):
        client.files.upload(file=io.BytesIO(b"x"), config={"mime_type": "text/plain", "name": "toll-9"})
    client.files.delete(name=made.name)
    with pytest.raises(errors.ClientError):
        client.files.get(name=made.name)
    contents = [types.Content(role="user", parts=[types.Part(text="Long " * 50)])]
    cache = client.caches.create(model=MODEL, config={"contents": contents})
    assert cache.name in [one.name for one in client.caches.list()]
    client.caches.delete(name=cache.name)
