"""TLS towards providers: always verified, against the system's authorities, certifi's and a provider's own.

Sessions are kept by server name so that a new connection resumes instead of shaking hands in full.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from typing import Any

import certifi

SESSIONS = 512


class ResumingContext(ssl.SSLContext):
    """An SSLContext that offers the last session of the same server name; event loops call ``wrap_bio``."""

    sessions: OrderedDict[str, ssl.SSLSession]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        if session is None and isinstance(server_hostname, str):
            session = self.sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, connection: Any) -> None:
        """Keep the session of an established connection (an SSLObject). TLS 1.3 tickets come after the handshake,
        so this is called when the first answer has been read."""
        session, name = connection.session, connection.server_hostname
        if session is None or not name:
            return
        self.sessions[name] = session
        self.sessions.move_to_end(name)
        if len(self.sessions) > SESSIONS:
            self.sessions.popitem(last=False)


class Contexts:
    """One context for each set of authorities, made when first needed (reading the bundle takes milliseconds)."""

    def __init__(self) -> None:
        self._by_file: dict[str | None, ResumingContext] = {}

    def get(self, ca_file: str | None) -> ResumingContext:
        context = self._by_file.get(ca_file)
        if context is None:
            context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
            context.sessions = OrderedDict()
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_default_certs()
            context.load_verify_locations(certifi.where())
            if ca_file is not None:
                context.load_verify_locations(ca_file)
            context.set_alpn_protocols(["http/1.1"])
            self._by_file[ca_file] = context
        return context
