"""A configured provider, sans-I/O: values in, requests and refusals out. It never connects and never reads a
clock of its own.

Everything that does not change between requests is encoded once, when the provider is built.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tollway import __version__
from tollway.config.settings import ProviderSettings
from tollway.errors import BadRequest, ConfigError, UpstreamError
from tollway.model.clocks import Clocks
from tollway.providers.catalog import ENDPOINTS, Auth, CatalogEntry
from tollway.providers.credentials.bearer import check_key, credential_header, credential_query, header_of
from tollway.providers.languages import EVENTS, LANGUAGES, REMEMBERED, Way
from tollway.providers.passthrough import check_method, pass_headers, pass_path, pass_query
from tollway.providers.profiles import profile_of
from tollway.providers.quirks import Body, Quirk, apply
from tollway.providers.refusal import Redaction, read_refusal
from tollway.providers.request import Origin, UpstreamRequest, header_line, parse_base_url
from tollway.wire.body import encode, parse
from tollway.wire.codec import Profile

__all__ = ["EVENTS", "Origin", "Provider", "UpstreamRequest"]

USER_AGENT = f"tollway/{__version__}".encode("ascii")


class Provider:
    """One entry of the catalogue with one user's settings. ConfigError says what of them cannot be served.

    ``origin`` is where requests go, ``format`` the wire format of ``endpoints``, ``stream_usage`` as in the
    catalogue. ``languages`` are the wire formats it takes conversations in, the one to translate into first.
    """

    __slots__ = (
        "_calls", "_keep", "_pass_own", "_pass_query", "_pass_root", "_pass_static", "_profiles", "_quirks",
        "_redaction", "_wall_clock", "_ways", "_written", "entry", "format", "has_quirks", "languages", "name",
        "origin", "settings", "stream_usage",
    )  # fmt: skip

    def __init__(
        self, entry: CatalogEntry, settings: ProviderSettings, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.entry = entry
        self.settings = settings
        self.name = settings.name
        self.format = entry.format
        self.stream_usage = entry.stream_usage
        self._wall_clock = wall_clock
        native = entry.native
        native_auth = entry.auth if native is None or native.auth is None else native.auth
        self.origin, base_path = _address(entry, settings)
        _check_credentials(entry, settings, (entry.auth, native_auth))
        secrets = [settings.api_key, *settings.headers.values()]
        self._redaction = Redaction(secret.reveal() for secret in secrets if secret)

        root = _joined(base_path, entry.path_prefix)
        # A base URL that already ends in a path of the entry's is taken without it, so both ways to write it
        # work.
        bare = root.removesuffix(entry.path_prefix) if entry.path_prefix else base_path
        self._calls: dict[str, tuple[bytes, bytes, bytes]] = {}
        head = self._head(entry.auth, entry.headers)
        query = credential_query(entry.auth, settings.api_key)
        for endpoint in entry.endpoints:
            path = entry.paths.get(endpoint)
            self._calls[endpoint] = _call(endpoint, root, query, head, path)
        if native is not None:
            query = credential_query(native_auth, settings.api_key)
            native_head = self._head(native_auth, native.headers)
            for endpoint in native.endpoints:
                self._calls[endpoint] = _call(endpoint, bare + native.path, query, native_head)

        self.languages = entry.languages
        self._profiles: dict[str, Profile] = {}
        self._ways: dict[str, Way] = {}
        for name in self.languages:
            if native is not None and (
                name in native.languages or LANGUAGES[name].endpoint in native.endpoints
            ):
                place, auth, defaults = bare + native.path, native_auth, native.headers
            else:
                place, auth, defaults = root, entry.auth, entry.headers
            lines = self._head(auth, {**LANGUAGES[name].headers, **defaults})
            query = credential_query(auth, settings.api_key)
            self._ways[name] = Way(name, place, query, lines, entry.paths.get(LANGUAGES[name].endpoint))

        self._pass_root = (
            root if native is None else bare + (native.path if native.root is None else native.root)
        )
        self._pass_query = credential_query(native_auth, settings.api_key)
        forced = {name.lower(): secret.reveal() for name, secret in settings.headers.items()}
        always = [(b"host", self.origin.authority.encode("ascii")), (b"accept-encoding", b"identity")]
        credential = credential_header(native_auth, settings.api_key)
        always += [pair for pair in credential if pair[0].decode("ascii") not in forced]
        always += [(name.encode("ascii"), value.encode("latin-1")) for name, value in forced.items()]
        self._pass_static = b"".join(header_line(*pair) for pair in always)
        self._pass_own = frozenset({name for name, _ in always} | {header_of(native_auth).encode("ascii")})
        defaults = native.headers if native is not None else entry.headers
        keep = {
            b"user-agent": USER_AGENT,
            **{n.lower().encode(): v.encode("latin-1") for n, v in defaults.items()},
        }
        self._keep = [(n, header_line(n, v)) for n, v in keep.items() if n not in self._pass_own]

        self.has_quirks = bool(entry.quirks)
        self._quirks: dict[str, tuple[Quirk, ...]] = {
            endpoint: tuple(quirk for quirk in entry.quirks if not quirk.on or endpoint in quirk.on)
            for endpoint in entry.endpoints
        }
        self._written: dict[str, tuple[Quirk, ...]] = {}
        for name in self.languages:
            endpoint = LANGUAGES[name].endpoint
            quirks = self._quirks.get(endpoint, ())
            if name == self.format:
                quirks = (*entry.written, *quirks)
            if quirks:
                self._written[name] = quirks

    def __repr__(self) -> str:
        return f"Provider({self.name}, {self.entry.name} at {self.origin!r})"

    def offers(self, endpoint: str) -> bool:
        """Whether the provider serves an endpoint of ``catalog.ENDPOINTS``."""
        return endpoint in self._calls

    def request(
        self,
        endpoint: str,
        body: bytes,
        *,
        accept: bytes = b"application/json",
        extra: bytes = b"",
        clocks: Clocks,
    ) -> UpstreamRequest:
        """A request with a JSON body (none for GET endpoints). ``extra`` is whole header lines, written as
        they are."""
        try:
            method, target, headers = self._calls[endpoint]
        except KeyError:
            raise BadRequest(f"provider {self.name} does not serve {endpoint}") from None
        return UpstreamRequest(
            origin=self.origin,
            method=method,
            target=target,
            headers=b"%baccept: %b\r\n%b" % (headers, accept, extra),
            body=body,
            provider=self.name,
            clocks=clocks,
            streamed=accept == EVENTS,
        )

    def converse(
        self,
        language: str,
        model: str,
        body: bytes,
        *,
        stream: bool,
        extra: bytes = b"",
        clocks: Clocks,
    ) -> UpstreamRequest:
        """A request for an answer in one of ``languages``; its stream if ``stream``. ``model`` is the name at the
        provider, which some formats have in the address; ``body`` and ``extra`` as in ``request``.

        BadRequest where the format is not spoken or the name cannot be part of an address.
        """
        way = self._ways.get(language)
        if way is None:
            raise BadRequest(f"provider {self.name} does not speak {language}")
        return UpstreamRequest(
            origin=self.origin,
            method=b"POST",
            target=way.target(model, stream),
            headers=b"%baccept: %b\r\n%b" % (way.lines, way.accept(stream), extra),
            body=body,
            provider=self.name,
            clocks=clocks,
            streamed=stream,
        )

    def profile(self, model: str) -> Profile:
        """What ``model``, named as at the provider, can do. The same name gives the same object for a while."""
        found = self._profiles.get(model)
        if found is None:
            found = profile_of(self.entry.name, model)
            if len(self._profiles) >= REMEMBERED:
                self._profiles.clear()
            self._profiles[model] = found
        return found

    def passthrough(
        self,
        method: bytes,
        path: bytes,
        query: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        *,
        clocks: Clocks | None = None,
    ) -> UpstreamRequest:
        """A client's own request to the provider's own API, with our credential in place of the client's.

        ``path`` is what follows ``/{provider}``, still percent-encoded; ``query`` what follows ``?``.
        BadRequest for whatever could leave the provider's base URL or end a header early.
        """
        passed, names = pass_headers(headers, self._pass_own)
        missing = b"".join(line for name, line in self._keep if name not in names)
        return UpstreamRequest(
            origin=self.origin,
            method=check_method(method),
            target=pass_path(self._pass_root, path) + pass_query(query, self._pass_query),
            headers=self._pass_static + missing + passed,
            body=body,
            provider=self.name,
            clocks=clocks or self.settings.clocks,
        )

    def rewrite(self, body: Body, endpoint: str = "chat.completions") -> Body:
        """The body as this provider wants it. The same object comes back where nothing is to be changed."""
        quirks = self._quirks.get(endpoint)
        return apply(quirks, body) if quirks else body

    def adapt(self, language: str, body: bytes) -> bytes:
        """A body a codec has written in one of ``languages``, as this provider wants it. The same bytes come back
        where nothing is to be changed."""
        quirks = self._written.get(language)
        return encode(apply(quirks, parse(body))) if quirks else body

    def needs_refresh(self, now: float) -> bool:
        """Whether ``credentials.renewal.renew`` has to be awaited before the next request. ``now`` is Unix time."""
        return False

    def error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> UpstreamError:
        """A provider's refusal as an error of ours. ``headers`` have lower-case names."""
        return read_refusal(self.name, status, headers, body, self._redaction, self._wall_clock())

    def redact(self, words: bytes) -> bytes:
        """An error's bytes as they came, but without this provider's credentials."""
        return self._redaction.exact(words)

    def _head(self, auth: Auth, defaults: Mapping[str, str]) -> bytes:
        """The header lines every request begins with; a configured header wins over ours of the same name."""
        lines: dict[bytes, bytes] = {b"host": self.origin.authority.encode("ascii")}
        lines.update(credential_header(auth, self.settings.api_key))
        lines[b"accept-encoding"] = b"identity"
        lines[b"user-agent"] = USER_AGENT
        for name, value in defaults.items():
            lines[name.lower().encode("ascii")] = value.encode("latin-1")
        for name, secret in self.settings.headers.items():
            lines[name.lower().encode("ascii")] = secret.reveal().encode("latin-1")
        return b"".join(header_line(name, value) for name, value in lines.items())


def _call(
    endpoint: str, root: str, query: bytes, head: bytes, path: str | None = None
) -> tuple[bytes, bytes, bytes]:
    method, usual = ENDPOINTS[endpoint]
    target = (root + (path or usual)).encode("ascii") + (b"?" + query if query else b"")
    return (
        method.encode("ascii"),
        target,
        head + (b"content-type: application/json\r\n" if method == "POST" else b""),
    )


def _address(entry: CatalogEntry, settings: ProviderSettings) -> tuple[Origin, str]:
    url = settings.base_url or entry.base_url
    where = f"providers.{settings.name}.base_url"
    if not url:
        raise ConfigError(
            [f"{where} is required for type {entry.name}, for example {entry.base_url_example}"]
        )
    try:
        return parse_base_url(url, ca_file=settings.ca_file, proxy=settings.proxy)
    except ValueError as error:
        raise ConfigError([f"{where} is not usable: {error}"]) from None


# Written by us or by the connection: a configured one would break the framing or the connection pool.
_RESERVED = frozenset(("host", "content-length", "transfer-encoding", "connection", "accept",
                       "accept-encoding", "content-type", "upgrade", "te", "trailer", "expect"))  # fmt: skip


def _check_credentials(entry: CatalogEntry, settings: ProviderSettings, auths: tuple[Auth, ...]) -> None:
    where = f"providers.{settings.name}"
    problems: list[str] = []
    for name, secret in settings.headers.items():
        try:
            header_line(name.encode("ascii"), secret.reveal().encode("latin-1"))
        except ValueError:  # UnicodeEncodeError is one
            problems.append(f"{where}.headers: {name!r} has a name or a value that cannot be a header")
        if name.lower() in _RESERVED:
            problems.append(f"{where}.headers: {name!r} is written by the gateway itself; leave it out")
    configured = {name.lower() for name in settings.headers}
    needed = [auth for auth in auths if auth.scheme != "none" and header_of(auth) not in configured]
    if settings.api_key:
        check_key(settings.name, settings.api_key)
    elif needed and not entry.key_optional:
        usual = f" (usually ${{{entry.env[0]}}})" if entry.env else ""
        problems.append(f"{where}.api_key is missing{usual}")
    if problems:
        raise ConfigError(problems)


def _joined(path: str, prefix: str) -> str:
    """``prefix`` behind ``path``; where the end of one is the beginning of the other it stands once."""
    segments = prefix.split("/")[1:]
    for count in range(len(segments), 0, -1):
        overlap = "/" + "/".join(segments[:count])
        if path.endswith(overlap):
            return path + prefix[len(overlap) :]
    return path + prefix
