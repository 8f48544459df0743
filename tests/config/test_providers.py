# ruff: noqa: E501  (the tables hold whole messages)
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tollway.config.settings import Settings
from tollway.model.secret import Secret


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("opnai: {api_key: x}", '"opnai" is not a catalogued provider; give the entry a type, such as openai-compatible; did you mean "openai"?'),
        ("x: {type: azrue}", 'provider x: type: "azrue" is not in the catalogue; did you mean "azure"?'),
        ("openai: {base_url: ftp://x}", "provider openai: base_url: expected a URL that begins with http:// or https://"),
        ("openai: {base_url: 'https://u:p@h/v1'}", "provider openai: base_url: the URL must not hold credentials"),
        ("openai: {base_url: 'https://h/v1?a=b'}", "provider openai: base_url: the URL must not have a query or a fragment"),
        ("openai: {base_url: 'http://h:99999'}", "provider openai: base_url: is not a URL"),
        ("openai: {api_key: ''}", "provider openai: api_key: the credential is empty"),
        ("openai: {bas_url: x}", 'unknown setting "bas_url" in provider openai; did you mean "base_url"?'),
        ("openai: {headers: {'a b': c}}", 'provider openai: headers: "a b" is not a header\'s name'),
        ("openai: {max_connections: 0}", 'provider openai: max_connections: expected a whole number from 1 to 100000, not "0"'),
        ("openai: {region: 'eu/../x'}", 'provider openai: region: expected letters, digits and dashes, not "eu/../x"'),
        ("openai: {region: eu.evil.example/}", 'provider openai: region: expected letters, digits and dashes, not "eu.evil.example/"'),
        ("openai: {access_key_id: A}", "provider openai: secret_access_key is missing: the two keys of AWS belong together"),
        ("openai: {credentials: abc}", "provider openai: credentials: expected the JSON text of a key file, for example ${GOOGLE_CREDENTIALS}"),
        ("openai: {credentials_file: /gone/key.json}", "provider openai: credentials_file: cannot be read: No such file or directory"),
        ("openai: sk-123", "provider openai must hold settings, each written `name: value`"),
        ("a/b: {type: openai}", 'providers: "a/b" is no usable name (letters, digits, dot, dash and underscore)'),
    ],
)  # fmt: skip
def test_refused(problems: Callable[..., list[str]], entry: str, problem: str) -> None:
    assert problems(f"providers:\n  {entry}\n") == [f"tollway.yaml:2: {problem}"]


def test_accepted(load: Callable[..., Settings]) -> None:
    found = load(
        "providers:\n  groq:\n  x: {type: openai, api_key: a, proxy: 'http://p:1', unpriced: refuse, timeout: 9}\n"
    )
    groq, x = found.providers
    assert (groq.type, groq.api_key, groq.base_url) == ("groq", None, None)
    assert (x.type, x.proxy, x.unpriced, x.clocks.total) == ("openai", "http://p:1", "refuse", 9)


def test_credentials_of_clouds(load: Callable[..., Settings], tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text('{"type": "service_account"}')
    found = load(
        "providers:\n"
        "  aws: {type: openai, region: eu-west-1, access_key_id: A, secret_access_key: B/+=, session_token: C}\n"
        f"  google: {{type: openai, project: acme-1, region: global, credentials_file: {file}}}\n"
        '  text: {type: openai, credentials: \'{"type": "service_account"}\'}\n'
    )
    aws, google, text = found.providers
    assert aws.region == "eu-west-1"
    assert (aws.access_key_id, aws.secret_access_key) == (Secret("A"), Secret("B/+="))
    assert aws.session_token == Secret("C")
    assert (google.project, google.region) == ("acme-1", "global")
    assert google.credentials == text.credentials == Secret(file.read_text())
