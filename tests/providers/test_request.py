from __future__ import annotations

import pytest

from tollway.providers.request import Origin, header_line, parse_base_url


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("https://api.openai.com/v1", "api.openai.com", "/v1"),
        ("https://api.openai.com:443/v1/", "api.openai.com", "/v1"),
        ("http://api.openai.com:443", "api.openai.com:443", ""),
        ("HTTP://LOCALHOST:8000/v1", "localhost:8000", "/v1"),
        ("http://[::1]:8000/v1", "[::1]:8000", "/v1"),
        ("https://bücher.example/v1", "xn--bcher-kva.example", "/v1"),
        ("https://x.example/a%20b/é", "x.example", "/a%20b/%C3%A9"),
        ("http://my_host:80", "my_host", ""),
    ],
)
def test_base_url(url: str, authority: str, path: str) -> None:
    origin, found = parse_base_url(url)
    assert origin.authority == authority
    assert found == path


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "ftp://x/v1",
        "file:///etc/passwd",
        "https://",
        "https:///v1",
        "https://user:pw@x/v1",
        "https://x@y/v1",
        "https://x/v1?key=1",
        "https://x/v1?",
        "https://x/v1#f",
        "https://x/v1#",
        "https://x/v1\r\nhost: y",
        "https://x/\tv1",
        "https://x /v1",
        "https://x/../v1",
        "https://x/%2e%2E/v1",
        "https://x/a//b",
        "https://x\\@y/v1",
        "https://x:0/v1",
        "https://x:99999/v1",
        "https://x:abc/v1",
        "https://-x-/v1",
        "https://x,y/v1",
        "http://[::1/v1",
    ],
)
def test_base_url_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_base_url(url)


def test_origin_is_a_key() -> None:
    one = Origin(scheme="https", host="x", port=443)
    assert {one: 1}[Origin(scheme="https", host="x", port=443)] == 1
    assert one != Origin(scheme="https", host="x", port=443, proxy="http://p:1")
    assert (
        repr(Origin(scheme="https", host="x", port=8443, proxy="http://u:pw@p:1")) == "Origin(https://x:8443)"
    )


def test_header_line() -> None:
    assert header_line(b"x-a", b"1\t\xff") == b"x-a: 1\t\xff\r\n"
    for name, value in (
        (b"x\r", b"1"),
        (b"x", b"1\n"),
        (b"x", b"\x00"),
        (b"", b"1"),
        (b"x:", b"1"),
        (b"x", b"\x7f"),
    ):
        with pytest.raises(ValueError, match="not allowed"):
            header_line(name, value)
