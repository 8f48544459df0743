from __future__ import annotations

import pytest

from tollway.providers.proxies import Proxies, Proxy, parse_proxy


@pytest.mark.parametrize(
    ("url", "host", "port", "authorization"),
    [
        ("http://proxy:3128", "proxy", 3128, None),
        ("proxy:3128", "proxy", 3128, None),
        ("http://proxy", "proxy", 80, None),
        ("HTTP://Proxy/", "proxy", 80, None),
        ("http://[::1]:8080", "::1", 8080, None),
        ("http://user:pass@proxy:1", "proxy", 1, "Basic dXNlcjpwYXNz"),
        ("http://user@proxy:1", "proxy", 1, "Basic dXNlcjo="),
        ("http://us%40er:p%3Ass@proxy:1", "proxy", 1, "Basic dXNAZXI6cDpzcw=="),
    ],
)
def test_urls(url: str, host: str, port: int, authorization: str | None) -> None:
    proxy = parse_proxy(url)
    assert (proxy.host, proxy.port) == (host, port)
    assert (proxy.authorization.reveal() if proxy.authorization else None) == authorization


def test_the_password_is_not_shown() -> None:
    shown = repr(parse_proxy("http://user:pass@proxy:1"))
    assert "pass" not in shown
    assert "dXNlcjpwYXNz" not in shown


@pytest.mark.parametrize(
    "url", ["socks5://proxy:1080", "https://proxy:443", "http://", "http://proxy:port", ""]
)
def test_what_is_no_http_proxy(url: str) -> None:
    with pytest.raises(ValueError):
        parse_proxy(url)


PROXIES = {"HTTP_PROXY": "http://plain:1", "HTTPS_PROXY": "http://secure:2", "ALL_PROXY": "http://all:3"}


@pytest.mark.parametrize(
    ("environ", "scheme", "host"),
    [
        ({}, "https", None),
        (PROXIES, "http", "plain"),
        (PROXIES, "https", "secure"),
        ({"ALL_PROXY": "http://all:3"}, "http", "all"),
        ({"ALL_PROXY": "http://all:3"}, "https", "all"),
        ({"HTTP_PROXY": "http://plain:1"}, "https", None),
        ({"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1"}, "https", "lower"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://upper:1"}, "https", "upper"),
    ],
)
def test_which_proxy(environ: dict[str, str], scheme: str, host: str | None) -> None:
    found = Proxies(environ).find(scheme, "api.test", 443)
    assert (found.host if found else None) == host
    assert found is None or isinstance(found, Proxy)


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "exempt"),
    [
        ("", "api.test", 443, False),
        ("*", "api.test", 443, True),
        ("api.test", "api.test", 443, True),
        ("API.test", "api.TEST", 443, True),
        ("other.test", "api.test", 443, False),
        ("test", "api.test", 443, True),
        (".test", "api.test", 443, True),
        ("*.test", "api.test", 443, True),
        ("est", "api.test", 443, False),
        ("api.test", "my.api.test", 443, True),
        ("api.test", "myapi.test", 443, False),
        ("api.test:443", "api.test", 443, True),
        ("api.test:8443", "api.test", 443, False),
        (" a.test , api.test ,, ", "api.test", 443, True),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.1.2.3/8", "10.9.9.9", 80, True),
        ("10.0.0.0/99", "10.1.2.3", 80, False),
        ("fd00::/8", "fd12::1", 80, True),
        ("fd00::/8", "10.1.2.3", 80, False),
        ("::1", "::1", 80, True),
        ("3", "10.1.2.3", 80, False),
        ("10.0.0.0/8", "ten.test", 80, False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, port: int, exempt: bool) -> None:
    found = Proxies({"HTTP_PROXY": "http://proxy:1", "NO_PROXY": no_proxy}).find("http", host, port)
    assert (found is None) is exempt
