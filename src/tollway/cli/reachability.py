"""Whether the providers' addresses resolve and take a connection. No request and no credential is ever
sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping

from tollway.cli.checks import Finding
from tollway.config.settings import ProviderSettings, Settings
from tollway.errors import ConfigError
from tollway.providers.catalog import Catalog
from tollway.providers.environment import completed
from tollway.providers.provider import Provider
from tollway.providers.proxies import Proxies, parse_proxy
from tollway.providers.request import Origin
from tollway.providers.tls import Contexts

DEADLINE = 4.0
"""Seconds for one provider, its name look-up included."""


def providers(settings: Settings, catalog: Catalog, environ: Mapping[str, str]) -> list[Finding]:
    """One finding for each provider, all asked at the same time."""
    contexts, proxies = Contexts(), Proxies(environ)

    async def ask_all() -> list[Finding]:
        asked = (_ask(each, catalog, environ, contexts, proxies) for each in settings.providers)
        return list(await asyncio.gather(*asked))

    return asyncio.run(ask_all())


async def _ask(
    settings: ProviderSettings,
    catalog: Catalog,
    environ: Mapping[str, str],
    contexts: Contexts,
    proxies: Proxies,
) -> Finding:
    check = f"provider {settings.name}"
    try:
        origin = _origin(settings, catalog, environ)
        found = (
            parse_proxy(settings.proxy)
            if settings.proxy
            else proxies.find(origin.scheme, origin.host, origin.port)
        )
    except (ConfigError, ValueError) as error:
        return Finding(check=check, state="fail", found=str(error), advice="correct the configuration")
    host, port = (found.host, found.port) if found else (origin.host, origin.port)
    where = f"the proxy {host}:{port}" if found else origin.authority
    context = contexts.get(origin.ca_file) if origin.scheme == "https" and found is None else None
    begun = time.monotonic()
    try:
        async with asyncio.timeout(DEADLINE):
            _, writer = await asyncio.open_connection(host, port, ssl=context, happy_eyeballs_delay=0.25)
            writer.close()
    except TimeoutError:
        return Finding(
            check=check,
            state="fail",
            found=f"{where} did not answer within {DEADLINE:g} s",
            advice="check the network, the firewall and whether a proxy is needed (HTTPS_PROXY)",
        )
    except ssl.SSLCertVerificationError as error:
        return Finding(
            check=check,
            state="fail",
            found=f"{where}: its certificate is not trusted: {error.verify_message}",
            advice="check the clock, and the provider's ca_file if it has an authority of its own",
        )
    except socket.gaierror as error:
        return Finding(
            check=check,
            state="fail",
            found=f"{where}: the name does not resolve: {error.strerror}",
            advice="check base_url, DNS and whether a proxy is needed (HTTPS_PROXY)",
        )
    except OSError as error:
        return Finding(
            check=check,
            state="fail",
            found=f"{where}: {error.strerror or 'no connection'}",
            advice="check base_url, the network and the firewall",
        )
    took = (time.monotonic() - begun) * 1000
    done = "TCP and TLS" if context else "TCP"
    return Finding(check=check, state="ok", found=f"{where} connects ({done}, {took:.0f} ms)")


def _origin(settings: ProviderSettings, catalog: Catalog, environ: Mapping[str, str]) -> Origin:
    entry = catalog[settings.type]
    return Provider(entry, completed(entry, settings, environ)).origin
