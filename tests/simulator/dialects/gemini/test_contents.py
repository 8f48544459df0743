"""Gemini on the wire: both kinds of stream, the key, names in either case, what is refused."""

import json

import pytest

HELLO = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
CALL = {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}
RESULT = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}


def path(operation="generateContent", model="gemini-2.5-flash"):
    return f"/v1beta/models/{model}:{operation}"


async def test_an_array_is_a_stream_too(ask):
    reply = await ask(HELLO, path=path("streamGenerateContent", "m+tokens=3"), x_goog_api_key="k")
    assert reply.headers["content-type"] == "application/json; charset=UTF-8"
    chunks = json.loads(reply.body)
    assert chunks[0]["candidates"][0]["content"]["parts"][0]["text"]
    assert len(chunks) == 3
    assert chunks[-1]["usageMetadata"]["candidatesTokenCount"] == 3
    sse = await ask(HELLO, path=path("streamGenerateContent?alt=sse", "m+tokens=3"), x_goog_api_key="k")
    assert [one["candidates"] for one in sse.chunks] == [one["candidates"] for one in chunks]


@pytest.mark.parametrize("place", [0, 2])
async def test_an_array_with_an_error_inside(ask, place):
    reply = await ask(HELLO, path=path("streamGenerateContent", f"m+error_event={place}"), x_goog_api_key="k")
    chunks = json.loads(reply.body)
    assert len(chunks) == place + 1
    assert chunks[-1]["error"]["status"] == "UNAVAILABLE"


async def test_the_key(ask):
    assert (await ask(HELLO, path=path())).status == 403
    assert (await ask(HELLO, path=path() + "?key=k")).status == 200
    assert (await ask(HELLO, path=path(), x_goog_api_key="k")).status == 200
    assert (await ask(path="/v1beta/models?key=k")).json()["models"]
    assert (await ask(path="/v1beta/models")).status == 403


async def test_names_in_either_case(ask):
    body = {
        "contents": HELLO["contents"],
        "system_instruction": {"parts": [{"text": "Be brief"}]},
        "generation_config": {"max_output_tokens": 2},
    }
    said = (await ask(body, path=path(), x_goog_api_key="k")).json()
    assert said["usageMetadata"]["promptTokenCount"] == 10
    assert said["candidates"][0]["finishReason"] == "MAX_TOKENS"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"contents": []}, "contents is not specified"),
        ({"messages": []}, 'Unknown name "messages": Cannot find field.'),
        (
            {"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]},
            "Please use a valid role: user, model.",
        ),
        ({"contents": [{"role": "user", "parts": []}]}, "contents.parts must not be empty"),
        ({"contents": [{"role": "user", "parts": [{}]}]}, "must have one initialized field"),
        ({"contents": [*HELLO["contents"], CALL, HELLO["contents"][0]]}, "number of function response parts"),
        ({"contents": [RESULT]}, "number of function response parts"),
        ({"contents": [CALL, RESULT]}, "function call turn comes immediately after a user turn"),
        ({"generationConfig": {"candidateCount": 9}}, "candidate_count"),
    ],
)
async def test_refusals(ask, fields, message):
    reply = await ask({**HELLO, **fields}, path=path(), x_goog_api_key="k")
    error = reply.json()["error"]
    assert (reply.status, error["status"]) == (400, "INVALID_ARGUMENT")
    assert message in error["message"]


async def test_usage_knobs(ask):
    bare = (await ask(HELLO, path=path(model="m+usage=bare"), x_goog_api_key="k")).json()
    assert bare["usageMetadata"] == {"promptTokenCount": 8, "candidatesTokenCount": 32, "totalTokenCount": 40}
    assert (await ask(HELLO, path=path(model="m+usage=null"), x_goog_api_key="k")).json()[
        "usageMetadata"
    ] is None
    none = await ask(HELLO, path=path("streamGenerateContent", "m+no_usage"), x_goog_api_key="k")
    assert b"usageMetadata" not in none.body


async def test_what_is_not_there(ask):
    reply = await ask(HELLO, path=path("noSuchThing"), x_goog_api_key="k")
    assert reply.status == 404
    assert reply.json()["error"]["status"] == "NOT_FOUND"
    assert (await ask(path=path(), x_goog_api_key="k")).status == 405
