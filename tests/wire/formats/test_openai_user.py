import json

import pytest

from tollway.wire.codec import Profile
from tollway.wire.codecs import codec
from tollway.wire.formats.openai_user import MAX_USER, end_user

LONG = json.dumps(
    {"device_id": "2bc42b34" * 8, "account_uuid": "", "session_id": "a96d521b-9236-40b3-bfce-522274287370"}
)


def test_a_short_one_stays():
    assert end_user("u" * MAX_USER) == "u" * MAX_USER


def test_a_long_one_stays_the_same_user():
    assert len(end_user(LONG)) == MAX_USER
    assert end_user(LONG) == end_user(str(LONG)) != end_user(LONG + " ")


@pytest.mark.parametrize("format", ["openai.chat", "openai.responses"])
def test_a_messages_client_with_a_long_one(format):
    asked = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "Hello"}]}
    body = json.dumps({**asked, "metadata": {"user_id": LONG}}).encode()
    conversation = codec("anthropic.messages").read_request(body)
    written = codec(format).write_request(conversation, Profile(model="m"))
    assert json.loads(written.body)["user"] == end_user(LONG)
