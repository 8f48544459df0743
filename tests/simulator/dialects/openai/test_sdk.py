"""The official SDK against the simulator: every answer parses into its types and these find nothing amiss."""

import asyncio

import pytest

openai = pytest.importorskip("openai")
from pydantic import BaseModel, TypeAdapter  # noqa: E402

from tollway.simulator.running import start_in_thread  # noqa: E402

MESSAGES = [{"role": "user", "content": "Hello"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    }
]


@pytest.fixture(scope="module")
def running():
    with start_in_thread() as made:
        yield made


@pytest.fixture(scope="module")
def client(running):
    with openai.OpenAI(base_url=running.url, api_key="sk-any", max_retries=0) as made:
        yield made


def checked(value):
    """The SDK builds its models without validation; this does validate them, strictly by their own types."""
    TypeAdapter(type(value)).validate_python(value.model_dump())
    return value


def test_chat(client):
    said = checked(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES))
    assert said.choices[0].finish_reason == "stop"
    assert said.usage.total_tokens == 8 + 32
    assert said._request_id.startswith("req_")


def test_chat_with_everything(client):
    said = checked(
        client.chat.completions.create(
            model="gpt-4o-mini+reasoning=3+cached=2",
            messages=MESSAGES,
            n=2,
            logprobs=True,
            top_logprobs=2,
            seed=4,
            service_tier="flex",
        )
    )
    assert said.usage.completion_tokens_details.reasoning_tokens == 3
    assert said.usage.prompt_tokens_details.cached_tokens == 2
    assert len(said.choices[1].logprobs.content) == 32


def test_refusals(client):
    said = checked(client.chat.completions.create(model="m+refusal", messages=MESSAGES))
    assert said.choices[0].message.refusal


@pytest.mark.parametrize(
    "knobs", ["", "+crlf+comments", "+split=5", "+encoding=gzip", "+pace=0", "+obfuscation"]
)
def test_streams(client, knobs):
    stream = client.chat.completions.create(
        model=f"m{knobs}+tokens=9", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [checked(chunk) for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text) == 36
    assert chunks[-1].usage.completion_tokens == 9


def test_the_streaming_helper_with_tools(client):
    with client.chat.completions.stream(model="m+parallel=2", messages=MESSAGES, tools=TOOLS) as stream:
        kinds = {event.type for event in stream}
        said = stream.get_final_completion()
    assert {"chunk", "tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    calls = said.choices[0].message.tool_calls
    assert [call.function.parsed_arguments for call in calls] == [{"city": "the old cat"}] * 2
    assert said.choices[0].finish_reason == "tool_calls"


def test_a_tool_loop(client):
    messages = list(MESSAGES)
    said = checked(client.chat.completions.create(model="m", messages=messages, tools=TOOLS))
    (call,) = said.choices[0].message.tool_calls
    messages += [
        said.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "Sunny"},
    ]
    said = checked(client.chat.completions.create(model="m", messages=messages, tools=TOOLS))
    assert said.choices[0].message.content
    assert said.choices[0].message.tool_calls is None


class Step(BaseModel):
    text: str
    sure: float


class Plan(BaseModel):
    title: str
    steps: list[Step]
    parent: "Plan | None"


@pytest.mark.parametrize("streamed", [False, True])
def test_structured_outputs(client, streamed):
    if streamed:
        with client.chat.completions.stream(model="m", messages=MESSAGES, response_format=Plan) as stream:
            said = stream.get_final_completion()
    else:
        said = client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Plan)
    parsed = said.choices[0].message.parsed
    assert isinstance(parsed, Plan)
    assert parsed.steps[0].sure == 1.5


def test_completions(client):
    said = checked(client.completions.create(model="m", prompt="Once", max_tokens=4, logprobs=2))
    assert said.choices[0].finish_reason == "length"
    options = {"include_usage": True}
    chunks = list(client.completions.create(model="m", prompt="Once", stream=True, stream_options=options))
    assert len("".join(chunk.choices[0].text for chunk in chunks[:-1])) == 64
    # Null until the last, as the API sends it, although the SDK's type does not say so.
    assert [checked(chunk).choices[0].finish_reason for chunk in chunks[-2:-1]] == ["stop"]
    assert chunks[-1].usage.completion_tokens == 16


def test_embeddings(client):
    # The SDK asks for base64 by itself and decodes it.
    said = checked(client.embeddings.create(model="text-embedding-3-small", input=["a cat", "a dog"]))
    assert [len(one.embedding) for one in said.data] == [1536, 1536]
    floats = client.embeddings.create(model="text-embedding-3-small", input="a cat", encoding_format="float")
    assert said.data[0].embedding == pytest.approx(floats.data[0].embedding, abs=1e-6)


def test_models(client):
    assert len(list(client.models.list())) > 5
    assert checked(client.models.retrieve("gpt-4o")).id == "gpt-4o"


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("+status=400", "BadRequestError"),
        ("+status=401", "AuthenticationError"),
        ("+status=403", "PermissionDeniedError"),
        ("+known_only", "NotFoundError"),
        ("+status=409", "ConflictError"),
        ("+status=422", "UnprocessableEntityError"),
        ("+status=429", "RateLimitError"),
        ("+status=502+body=html", "InternalServerError"),
        ("+cut=headers", "APIConnectionError"),
    ],
)
def test_errors_are_the_sdks_own(client, suffix, kind):
    with pytest.raises(getattr(openai, kind)):
        client.chat.completions.create(model="m" + suffix, messages=MESSAGES)


def test_an_error_in_the_middle_of_a_stream(client):
    stream = client.chat.completions.create(model="m+error_event=3", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="Simulated error in the middle"):
        list(stream)


def test_the_sdk_retries_as_it_is_told(running):
    with openai.OpenAI(base_url=running.url, api_key="sk-any", max_retries=3) as patient:
        model = "m+fail_first=2+status=429+retry_after=5ms+scope=sdk"
        assert patient.chat.completions.create(model=model, messages=MESSAGES).choices


async def test_the_asynchronous_client(running):
    async with openai.AsyncOpenAI(base_url=running.url, api_key="sk-any") as client:

        async def one(number: int) -> int:
            stream = await client.chat.completions.create(
                model=f"m+pace=1ms+tokens={number}", messages=MESSAGES, stream=True
            )
            return sum([1 async for chunk in stream if chunk.choices[0].delta.content])

        assert await asyncio.gather(*(one(number) for number in range(1, 9))) == list(range(1, 9))
