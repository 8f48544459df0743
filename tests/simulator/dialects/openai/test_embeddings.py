import base64
import struct
from math import isclose, sqrt

import pytest

PATH = "/v1/embeddings"


async def vectors(ask, given, **more):
    said = (await ask({"model": "text-embedding-3-small", "input": given, **more}, PATH)).json()
    assert [one["index"] for one in said["data"]] == list(range(len(said["data"])))
    return [one["embedding"] for one in said["data"]]


def near(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


async def test_vectors_have_length_one_and_depend_on_the_text_alone(ask):
    one, again, other = await vectors(ask, ["the old cat", "the old cat", "a red fox"])
    assert len(one) == 1536
    assert isclose(sqrt(near(one, one)), 1.0, abs_tol=1e-9)
    assert one == again != other


async def test_texts_that_share_words_lie_closer(ask):
    cat, cats, tax = await vectors(ask, ["the old cat sat", "the old cat ran", "quarterly revenue forecast"])
    assert near(cat, cats) > 0.5 > near(cat, tax)


async def test_base64_is_the_same_vector(ask):
    (floats,) = await vectors(ask, "hello world", dimensions=64)
    (packed,) = await vectors(ask, "hello world", dimensions=64, encoding_format="base64")
    unpacked = struct.unpack("<64f", base64.b64decode(packed))
    assert all(isclose(a, b, abs_tol=1e-6) for a, b in zip(floats, unpacked, strict=True))


async def test_dimensions(ask):
    assert len((await vectors(ask, "x", dimensions=7))[0]) == 7
    said = (await ask({"model": "text-embedding-3-large", "input": "x"}, PATH)).json()
    assert len(said["data"][0]["embedding"]) == 3072
    said = (await ask({"model": "m+dimensions=9", "input": "x"}, PATH)).json()
    assert len(said["data"][0]["embedding"]) == 9


@pytest.mark.parametrize(
    ("given", "number", "tokens"),
    [("x" * 9, 1, 3), (["four", "fours"], 2, 3), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3)],
)
async def test_inputs_of_every_kind_are_billed(simulator, ask, given, number, tokens):
    said = (await ask({"model": "m", "input": given}, PATH)).json()
    assert len(said["data"]) == number
    assert said["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert simulator.bill.totals["m"].prompt_tokens == tokens
    assert simulator.bill.entries()[0].endpoint == "embeddings"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({}, "input"),
    ],
)
async def test_what_is_not_valid(ask, more, param):
    reply = await ask({"model": "m", **more}, PATH)
    assert (reply.status, reply.json()["error"]["param"]) == (400, param)
