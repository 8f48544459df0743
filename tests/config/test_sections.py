from __future__ import annotations

from collections.abc import Callable

import pytest

from tollway.config.settings import Settings


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server: {tls_cert: a.pem}", "server: tls_cert and tls_key belong together; one of them is missing"),
        ("server: {max_body: 64MX}", 'server.max_body: expected a size such as 65536, 64KiB, 10MB or 1GiB, not "64MX"'),
        ("server: {max_body: 1}", "server.max_body: expected a size from 1024 to 4294967296 bytes"),
        ("server: {max_message: 1}", "server.max_message: expected a size from 1024 to 1073741824 bytes"),
        ("server: {session_idle: never}", "server.session_idle: expected a duration such as 200ms, 30s, 2m, 1h or 30d "
         '(a number counts seconds), not "never"'),
        ("sinks: [syslog]", 'sinks: expected stdout or file, not "syslog"'),
        ("sinks: [file]", "sinks: a file sink needs a path: {type: file, path: …}"),
        ("sinks: [{type: file}]", "sinks: a file sink needs a path"),
        ("sinks: [{type: stdout, path: x}]", "sinks: a stdout sink has no path"),
        ("logs: {bodies: some}", 'logs.bodies: expected off or errors or all, not "some"'),
        ("logs: {bodies: no}", 'logs.bodies: expected off or errors or all, not "no"'),
        ("spool: {fsync: never}", "spool.fsync: expected a duration such as 1s, or off"),
        ("spool: {max_bytes: 16MiB}", "spool: max_bytes must hold at least two segments (segment_bytes)"),
    ],
)  # fmt: skip
def test_refused(problems: Callable[..., list[str]], text: str, problem: str) -> None:
    assert problems(text) == [f"tollway.yaml:1: {problem}"]


def test_off_is_a_word(load: Callable[..., Settings]) -> None:
    found = load("logs: {bodies: off}\nspool: {fsync: off}\nsinks: stdout\n")
    assert found.logs.bodies == "off"
    assert found.spool.fsync is None
    assert [sink.type for sink in found.sinks] == ["stdout"]


def test_tls(load: Callable[..., Settings]) -> None:
    server = load(
        "server: {tls_cert: a.pem, tls_key: b.pem, public_url: 'https://llm.example/', port: 0}\n"
    ).server
    assert (server.tls_cert, server.tls_key, server.public_url, server.port) == (
        "a.pem",
        "b.pem",
        "https://llm.example",
        0,
    )
