"""Which HTTP proxy leads to an origin: a provider's own, else by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from tollway.model.secret import Secret


class Proxy(Struct, frozen=True):
    """An HTTP proxy. ``authorization`` is the Proxy-Authorization value, where the URL carried a user."""

    host: str
    port: int
    authorization: Secret | None = None


def parse_proxy(url: str) -> Proxy:
    """``http://user:password@host:port`` or ``host:port``. Raises ValueError for anything but an HTTP proxy."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("a proxy is written http://host:port (SOCKS and https:// proxies are not supported)")
    authorization = None
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = Secret("Basic " + base64.b64encode(user.encode()).decode())
    return Proxy(parts.hostname, parts.port or 80, authorization)


class Proxies:
    """The environment's proxies, read once. ``find`` is asked when a connection is opened, not on every request."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        def value(name: str) -> str:
            return environ.get(name.lower()) or environ.get(name.upper()) or ""

        # HTTP_PROXY in capitals is ignored under CGI (httpoxy); a server of ours never runs so.
        self._by_scheme = {
            "http": value("http_proxy") or value("all_proxy"),
            "https": value("https_proxy") or value("all_proxy"),
        }
        self._exempt = [part.strip().lower() for part in value("no_proxy").split(",") if part.strip()]

    def find(self, scheme: str, host: str, port: int) -> Proxy | None:
        url = self._by_scheme.get(scheme)
        if not url or self._is_exempt(host.lower(), port):
            return None
        return parse_proxy(url)

    def _is_exempt(self, host: str, port: int) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            address = None
        for entry in self._exempt:
            if entry == "*" or entry in (host, f"{host}:{port}"):
                return True
            if address is not None and "/" in entry:
                try:
                    if address in ipaddress.ip_network(entry, strict=False):
                        return True
                except ValueError:
                    continue
            suffix = entry.lstrip("*").lstrip(".")
            if address is None and suffix and host.endswith("." + suffix):
                return True
        return False
