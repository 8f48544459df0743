"""Images: made, edited, varied; whole and in partial images."""

import base64

import pytest

openai = pytest.importorskip("openai")

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_images_that_are_paid_by_token(sdk, checked, last_line):
    made = checked(sdk.images.generate(model="gpt-image-1", prompt="A cat", n=2))
    assert all(base64.b64decode(one.b64_json).startswith(b"\x89PNG") for one in made.data)
    assert (made.usage.input_tokens, made.usage.output_tokens) == (2, 544)
    line = last_line()
    assert (line.endpoint, line.tokens["images"], line.tokens["output"]) == ("images.generations", 2, 544)


def test_images_that_are_paid_by_the_piece(sdk, checked, last_line):
    made = checked(sdk.images.generate(model="dall-e-3", prompt="A cat"))
    assert made.data[0].url
    assert made.data[0].revised_prompt == "A cat"
    assert made.usage is None
    asked = sdk.images.generate(model="dall-e-2", prompt="A cat", n=3, response_format="b64_json")
    assert len(asked.data) == last_line().tokens["images"] == 3
    assert last_line().completion_tokens == 0


@pytest.mark.parametrize("edited", [False, True])
def test_partial_images(sdk, checked, last_line, edited):
    fields = {"model": "gpt-image-1+tokens=100", "prompt": "A cat", "stream": True, "partial_images": 2}
    stream = sdk.images.edit(image=PNG, **fields) if edited else sdk.images.generate(**fields)
    events = [checked(event) for event in stream]
    kind = "image_edit" if edited else "image_generation"
    assert [event.type for event in events] == [f"{kind}.partial_image"] * 2 + [f"{kind}.completed"]
    assert events[-1].usage.output_tokens == last_line().completion_tokens == 100


def test_edits_and_variations(sdk, checked, last_line):
    made = checked(sdk.images.edit(model="gpt-image-1", image=[PNG, PNG], mask=PNG, prompt="A dog"))
    assert made.usage.input_tokens_details.image_tokens == 170
    assert last_line().endpoint == "images.edits"
    sdk.images.create_variation(image=PNG, n=2)
    assert (last_line().endpoint, last_line().model, last_line().tokens["images"]) == (
        "images.variations",
        "dall-e-2",
        2,
    )


def test_refusals(sdk):
    with pytest.raises(openai.BadRequestError, match="prompt"):
        sdk.images.generate(model="dall-e-3", prompt="")
    with pytest.raises(openai.BadRequestError, match="'n'"):
        sdk.images.generate(model="dall-e-2", prompt="x", n=11)
    with pytest.raises(openai.RateLimitError):
        sdk.images.edit(model="gpt-image-1+status=429", image=PNG, prompt="x")


async def test_a_form_that_is_none(ask):
    for body, kind, message in (
        (b"{}", "application/json", "must be multipart/form-data"),
        (b"--x\r\n", "multipart/form-data; boundary=x", "ended before its last boundary"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", "Missing required parameter: 'image'"),
        (b"", "multipart/form-data", "Missing boundary"),
    ):
        reply = await ask(body, path="/v1/images/edits", content_type=kind)
        assert reply.status == 400
        assert message in reply.json()["error"]["message"]
