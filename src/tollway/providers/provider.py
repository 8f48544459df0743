"""A configured provider, sans-I/O: values in, requests and refusals out. It never connects and never reads a
clock of its own.

Everything that does not change between requests is encoded once, when the provider is built.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Mapping

from tollway import __version__
from tollway.config.settings import ProviderSettings
from tollway.errors import BadRequest, ConfigError, UpstreamError
from tollway.model.clocks import Clocks
from tollway.providers.catalog import ENDPOINTS, Auth, CatalogEntry
from tollway.providers.credentials.bearer import credential_header, credential_query, header_of
from tollway.providers.credentials.proof import Proof, check_credentials, service_account_of, signer_of
from tollway.providers.credentials.sigv4 import OWN
from tollway.providers.languages import EVENTS, LANGUAGES, REMEMBERED, Way
from tollway.providers.passthrough import check_method, pass_headers, pass_path, pass_query
from tollway.providers.place import Place, joined
from tollway.providers.profiles import profile_of
from tollway.providers.quirks import Body, Quirk, apply
from tollway.providers.refusal import Redaction, read_refusal
from tollway.providers.request import Origin, UpstreamRequest, header_line
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
        "_calls", "_keep", "_narrowed", "_pass_own", "_pass_query", "_pass_root", "_pass_static", "_profiles",
        "_proof", "_quirks", "_redaction", "_spoken", "_wall_clock", "_ways", "_written", "entry", "format",
        "has_quirks", "languages", "name", "origin", "region", "settings", "stream_usage",
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
        check_credentials(entry, settings, (entry.auth, native_auth))
        account = service_account_of(settings)
        place = Place(entry, settings, account.project if account else "")
        self.origin = place.origin
        self.region = place.region
        self._proof: Proof | None = account or signer_of(entry.auth, settings, place.region)
        if any(name.lower() == "authorization" for name in settings.headers):
            self._proof = None
        secrets = [settings.api_key, settings.access_key_id, settings.secret_access_key]
        secrets += [settings.session_token, *settings.headers.values()]
        self._redaction = Redaction(secret.reveal() for secret in secrets if secret)

        prefix = place.filled(entry.path_prefix)
        native_path = place.filled(native.path) if native is not None else ""
        root = joined(place.path, prefix)
        # A base URL that already ends in a path of the entry's is taken without it, so both ways to write it
        # work.
        bare = root.removesuffix(prefix) if prefix else place.path
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
                self._calls[endpoint] = _call(endpoint, bare + native_path, query, native_head)

        self.languages = _languages(entry, settings)
        self._profiles: dict[str, Profile] = {}
        self._spoken: dict[str, tuple[str, ...]] = {}
        self._narrowed = {
            name: re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))
            for name, patterns in entry.models.items()
        }
        self._ways: dict[str, Way] = {}
        for name in self.languages:
            if native is not None and (
                name in native.languages or LANGUAGES[name].endpoint in native.endpoints
            ):
                stem, auth, defaults = bare + native_path, native_auth, native.headers
            else:
                stem, auth, defaults = root, entry.auth, entry.headers
            lines = self._head(auth, {**LANGUAGES[name].headers, **defaults})
            query = credential_query(auth, settings.api_key)
            address = entry.addresses.get(name)
            if address is not None:
                stem = bare + place.filled(address.path)
                self._ways[name] = Way(name, stem, query, lines, address.whole, address.streamed)
            else:
                self._ways[name] = Way(name, stem, query, lines, entry.paths.get(LANGUAGES[name].endpoint))

        self._pass_root = (
            root if native is None else bare + (native_path if native.root is None else native.root)
        )
        self._pass_query = credential_query(native_auth, settings.api_key)
        forced = {name.lower(): secret.reveal() for name, secret in settings.headers.items()}
        always = [(b"host", self.origin.authority.encode("ascii")), (b"accept-encoding", b"identity")]
        credential = credential_header(native_auth, settings.api_key)
        always += [pair for pair in credential if pair[0].decode("ascii") not in forced]
        always += [(name.encode("ascii"), value.encode("latin-1")) for name, value in forced.items()]
        self._pass_static = b"".join(header_line(*pair) for pair in always)
        own = {name for name, _ in always} | {header_of(native_auth).encode("ascii")}
        self._pass_own = frozenset(own.union(OWN) if self._proof is not None else own)
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
        for name in entry.addresses:
            endpoint = LANGUAGES[name].endpoint
            self._quirks[endpoint] = tuple(quirk for quirk in entry.quirks if endpoint in quirk.on)
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
        headers = b"%baccept: %b\r\n%b" % (headers, accept, extra)
        if self._proof is not None:
            headers = self._proof.lines(method, target, headers, body, self._wall_clock()) + headers
        return UpstreamRequest(
            origin=self.origin,
            method=method,
            target=target,
            headers=headers,
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
        target = way.target(model, stream)
        headers = b"%baccept: %b\r\n%b" % (way.lines, way.accept(stream), extra)
        if self._proof is not None:
            headers = self._proof.lines(b"POST", target, headers, body, self._wall_clock()) + headers
        return UpstreamRequest(
            origin=self.origin,
            method=b"POST",
            target=target,
            headers=headers,
            body=body,
            provider=self.name,
            clocks=clocks,
            streamed=stream,
        )

    def languages_for(self, model: str) -> tuple[str, ...]:
        """Those of ``languages`` in which ``model``, named as at the provider, is spoken to."""
        if not self._narrowed:
            return self.languages
        found = self._spoken.get(model)
        if found is None:
            found = tuple(
                name
                for name in self.languages
                if name not in self._narrowed or self._narrowed[name].match(model)
            )
            if len(self._spoken) >= REMEMBERED:
                self._spoken.clear()
            self._spoken[model] = found
        return found

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
        method = check_method(method)
        target = pass_path(self._pass_root, path) + pass_query(query, self._pass_query)
        lines = self._pass_static + missing + passed
        if self._proof is not None:
            lines = self._proof.lines(method, target, lines, body, self._wall_clock()) + lines
        return UpstreamRequest(
            origin=self.origin,
            method=method,
            target=target,
            headers=lines,
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


def _languages(entry: CatalogEntry, settings: ProviderSettings) -> tuple[str, ...]:
    if not settings.languages:
        return entry.languages
    native = entry.native.languages if entry.native else ()
    known = {
        *entry.possible_languages,
        *native,
        *(("openai.chat",) if "chat.completions" in entry.endpoints else ()),
    }
    for name in settings.languages:
        if name not in known:
            raise ConfigError(
                [
                    f"providers.{settings.name}.languages: {entry.name} does not speak {name}; "
                    f"it speaks {', '.join(sorted(known))}"
                ]
            )
    return settings.languages
