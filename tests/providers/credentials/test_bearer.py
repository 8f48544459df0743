from __future__ import annotations

import pytest

from tollway.errors import ConfigError
from tollway.model.secret import Secret
from tollway.providers.catalog import Auth
from tollway.providers.credentials.bearer import check_key, credential_header, credential_query, header_of

KEY = Secret("sk-1/+=&")


@pytest.mark.parametrize(
    ("auth", "name", "headers", "query"),
    [
        (Auth(), "authorization", [(b"authorization", b"Bearer sk-1/+=&")], b""),
        (Auth(scheme="header", name="API-Key"), "api-key", [(b"api-key", b"sk-1/+=&")], b""),
        (Auth(scheme="query", name="key"), "", [], b"key=sk-1%2F%2B%3D%26"),
        (Auth(scheme="none"), "", [], b""),
    ],
)
def test_schemes(auth: Auth, name: str, headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    assert header_of(auth) == name
    assert credential_header(auth, KEY) == headers
    assert credential_query(auth, KEY) == query
    assert credential_header(auth, None) == []
    assert credential_query(auth, None) == b""


def test_check_key() -> None:
    check_key("p", KEY)
    for value in ("", " ", "a b", "a\n", "ä", "a\x7f"):
        with pytest.raises(ConfigError) as refused:
            check_key("p", Secret(value))
        assert refused.value.problems[0].startswith("providers.p.api_key")
