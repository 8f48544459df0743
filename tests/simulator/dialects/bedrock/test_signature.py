"""The door of Bedrock: bearer tokens, and what a signature covers."""

import hashlib
import json

import pytest

from tollway.simulator.server import AWS_KEYS, Simulator

auth = pytest.importorskip("botocore.auth")
from botocore.awsrequest import AWSRequest  # noqa: E402
from botocore.credentials import Credentials  # noqa: E402

BODY = json.dumps({"messages": [{"role": "user", "content": [{"text": "Hello"}]}]})
PATH = "/model/anthropic.claude%3A0/converse"


def signed(body=BODY, path=PATH, service="bedrock", **headers):
    request = AWSRequest(
        "POST", "http://simulator" + path, data=body, headers={"host": "simulator", **headers}
    )
    auth.SigV4Auth(Credentials(*AWS_KEYS), service, "us-east-1").add_auth(request)
    return {
        name.lower().replace("-", "_"): value for name, value in request.headers.items() if name != "host"
    }


async def test_a_signature_is_taken(ask):
    assert (await ask(BODY.encode(), path=PATH, **signed())).status == 200
    query = PATH + "?b=2&a=%20x"
    assert (await ask(BODY.encode(), path=query, **signed(path=query))).status == 200


async def test_a_signature_covers_body_path_query_and_headers(ask):
    good = signed()
    for body, path, headers in (
        (BODY.replace("Hello", "Jello").encode(), PATH, good),
        (BODY.encode(), "/model/other/converse", good),
        (BODY.encode(), PATH + "?a=1", good),
        (BODY.encode(), PATH, {**good, "x_amz_security_token": "t"}),
        (BODY.encode(), PATH, signed(service="s3")),
        (BODY.encode(), PATH, {**good, "x_amz_date": "20200101T000000Z"}),
        (BODY.encode(), PATH, {**good, "x_amz_date": "yesterday"}),
        (BODY.encode(), PATH, {**good, "authorization": "AWS4-HMAC-SHA256 Credential=x"}),
    ):
        reply = await ask(body, path=path, **headers)
        assert reply.status == 403
        kind = reply.headers["x-amzn-errortype"].partition(":")[0]
        assert kind in ("InvalidSignatureException", "IncompleteSignatureException")
        assert reply.json()["message"]


async def test_a_declared_hash_must_be_signed(ask):
    digest = hashlib.sha256(BODY.encode()).hexdigest()
    assert (await ask(BODY.encode(), path=PATH, **signed(**{"x-amz-content-sha256": digest}))).status == 200


async def test_bearer_tokens(ask):
    assert (await ask(BODY.encode(), path=PATH, authorization="Bearer any")).status == 200
    reply = await ask(BODY.encode(), path=PATH)
    assert reply.status == 403
    assert reply.headers["x-amzn-errortype"].startswith("MissingAuthenticationTokenException")


async def test_a_required_key_and_keys_of_ones_own(post, read):
    import asyncio

    made = Simulator(require_key="right", aws_keys=("AKIDMINE", "secret"))
    await made.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    for headers, status in (
        ({"authorization": "Bearer right"}, 200),
        ({"authorization": "Bearer wrong"}, 403),
        (signed(), 403),
    ):
        writer.write(post(BODY.encode(), PATH, **headers))
        assert (await read(reader)).status == status
    writer.close()
    await made.stop()
