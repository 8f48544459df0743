from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from tollway.config.load import load_settings
from tollway.config.settings import RedisSettings, Settings
from tollway.errors import ConfigError
from tollway.model.clocks import Clocks
from tollway.model.key import Budget, RateLimit
from tollway.model.secret import Secret

FULL = """\
server: {host: 127.0.0.1, port: 4000, public_url: null, workers: 1, max_body: 32MiB, drain: 0}
admin_key: ${TOLLWAY_ADMIN}
require_key: true
database: sqlite:///tollway.db
redis: null
budget_status: 429
unpriced: refuse
providers:
  openai: {api_key: ${OPENAI_API_KEY}}
  azure-eu: {type: azure, base_url: https://x.openai.azure.com/, api_key: ${AZURE_KEY}, timeouts: {idle: 7s}}
  my-vllm: {type: openai-compatible, base_url: http://127.0.0.1:8000/v1, headers: {x-team: ${TEAM:-none}}}
models:
  fast: openai/gpt-5-mini
  smart:
    strategy: fallback
    targets: [openai/gpt-5, {model: azure-eu/gpt-5, weight: 2, timeout: 90s}]
    retry: {attempts: 3, on: [429, 5xx, timeout, connect]}
    timeouts: {connect: 2s, first_token: 30s}
  own: {model: my-vllm/llama, price: {input: 0.15, output: 0.60, cache_read: 0.075}}
keys:
  - {name: ci, key: ${CI_KEY}, models: [fast, openai/*], budget: {usd: 10, per: month, strict: true},
     limits: {rpm: 60, tpm: 100000, parallel: 4}, team: core platform, expires: 2030-01-01}
sinks: [stdout, {type: file, path: events.jsonl}]
logs: {bodies: errors, max_bytes: 64KiB, retention: 7d, events_retention: 365d, hours_retention: 30d}
spool: {segment_bytes: 1MiB, max_bytes: 64MiB, fsync: off}
"""
ENVIRON = {
    "TOLLWAY_ADMIN": "admin-secret",
    "OPENAI_API_KEY": "sk-1",
    "AZURE_KEY": "az",
    "CI_KEY": "sk-tw-0123456789abcd",
}


def test_everything_at_once(load: Callable[..., Settings], tmp_path: Path) -> None:
    found = load(FULL, ENVIRON)
    assert found.server.max_body == 32 * 1024 * 1024
    assert found.server.drain == 0
    assert found.admin_key == Secret("admin-secret")
    assert found.database == f"sqlite:///{tmp_path}/.tollway/tollway.db"
    assert found.data_dir == f"{tmp_path}/.tollway"
    assert (found.budget_status, found.unpriced) == (429, "refuse")
    openai, azure, vllm = found.providers
    assert (openai.name, openai.type, openai.api_key) == ("openai", "openai", Secret("sk-1"))
    assert (azure.type, azure.base_url, azure.clocks.idle) == ("azure", "https://x.openai.azure.com", 7)
    assert vllm.headers == {"x-team": Secret("none")}
    fast, smart, own = found.models
    assert (fast.strategy, fast.targets[0].model, fast.targets[0].clocks) == (
        "single",
        "openai/gpt-5-mini",
        None,
    )
    assert smart.retry.on == ("429", "5xx", "timeout", "connect")
    assert smart.targets[0].clocks == Clocks(connect=2, first_token=30)
    assert smart.targets[1].clocks == Clocks(connect=2, first_token=30, idle=7, total=90)
    assert own.targets[0].rates is not None
    assert own.targets[0].rates.input == 150_000_000
    assert own.targets[0].rates.cache_read == 75_000_000
    (key,) = found.keys
    assert (key.owner, key.hint, key.team) == ("file", "sk-tw-…abcd", "core platform")
    assert key.budgets == (Budget(limit=10 * 10**9, per="month", strict=True),)
    assert key.limits == RateLimit(rpm=60, tpm=100000, parallel=4)
    assert key.expires_at == 1893456000
    assert [(sink.type, sink.path) for sink in found.sinks] == [("stdout", None), ("file", "events.jsonl")]
    assert found.logs.hours_retention == 30 * 86400
    assert (found.logs.bodies, found.logs.max_bytes, found.logs.events_retention) == (
        "errors",
        65536,
        365 * 86400,
    )
    assert (found.spool.segment_bytes, found.spool.fsync) == (1024 * 1024, None)


def test_without_a_file_the_environment_is_enough(
    load: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = load(None, {"OPENAI_API_KEY": "sk-1"})
    assert [(p.name, p.api_key) for p in found.providers] == [("openai", Secret("sk-1"))]
    assert found.discovered == ("openai",)
    assert found.source is None
    (tmp_path / "tollway.yaml").write_text("server: {port: 4100}\n")
    assert load(None).server.port == 4100, "tollway.yaml in the working directory is the default file"


def test_discovery_ends_where_the_file_names_providers(load: Callable[..., Settings]) -> None:
    environ = {"OPENAI_API_KEY": "sk-1", "GROQ": "g"}
    assert load("models: {fast: openai/gpt-5}\n", environ).discovered == ("openai",)
    found = load("providers: {groq: {api_key: ${GROQ}}}\n", environ)
    assert [provider.name for provider in found.providers] == ["groq"]
    assert found.discovered == ()


def test_options_win_over_variables_and_those_over_the_file(
    load: Callable[..., Settings], tmp_path: Path
) -> None:
    text = "server: {host: 127.0.0.1, port: 1}\nadmin_key: file\ndata_dir: ~/x\n"
    environ = {"TOLLWAY_PORT": "2", "TOLLWAY_ADMIN_KEY": "env", "TOLLWAY_DATA_DIR": str(tmp_path / "d")}
    found = load(text, environ)
    assert (found.server.port, found.admin_key, found.data_dir) == (2, Secret("env"), str(tmp_path / "d"))
    assert found.database == f"sqlite:///{tmp_path}/d/tollway.db"
    assert load(text, environ, {"port": 3, "host": None}).server.port == 3
    assert load(text).data_dir == str(tmp_path / "x")
    assert load(text, {"TOLLWAY_DATABASE_URL": "none"}).database is None
    other = tmp_path / "other.yaml"
    other.write_text("server: {port: 9}\n")
    assert load(None, {"TOLLWAY_CONFIG": str(other)}).server.port == 9


def test_problems_outside_the_file_name_the_variable_or_option(problems: Callable[..., list[str]]) -> None:
    assert problems("", {"TOLLWAY_PORT": "many"}) == [
        "TOLLWAY_PORT: expected a whole number from 0 to 65535, not this value"
    ]
    assert problems("", {}, {"port": 70000})[0].startswith("--port: ")
    assert problems("", {"OPENAI_API_KEY": "sk-ü"}) == [
        "OPENAI_API_KEY: a credential holds visible ASCII characters only"
    ]


def test_a_variable_may_hold_a_number_or_a_word(load: Callable[..., Settings]) -> None:
    text = "server: {port: ${PORT}, host: '${HOST}'}\nrequire_key: ${RK}\nredis: ${REDIS:-}\n"
    found = load(text, {"PORT": "4444", "HOST": "::1", "RK": "false"})
    assert (found.server.port, found.server.host, found.require_key, found.redis) == (
        4444,
        "::1",
        False,
        None,
    )
    assert load("admin_key: ${K}\n", {"K": "12345"}).admin_key == Secret("12345")


def test_require_key_needs_a_loopback_address(
    load: Callable[..., Settings], problems: Callable[..., list[str]]
) -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        assert not load(f"require_key: false\nserver: {{host: '{host}'}}\n").require_key
    (problem,) = problems("server: {host: 0.0.0.0}\nrequire_key: false\n")
    assert problem.startswith("tollway.yaml:2: require_key: false is accepted on a loopback address only")
    (problem,) = problems("require_key: false\n", {"TOLLWAY_HOST": "10.0.0.1"})
    assert problem.startswith("TOLLWAY_HOST: ")


def test_several_processes_need_redis_and_the_refusal_says_why(
    load: Callable[..., Settings], problems: Callable[..., list[str]]
) -> None:
    (problem,) = problems("server: {workers: 4}\n")
    assert problem.startswith("tollway.yaml:1: workers: 4 processes share their counters through Redis")
    assert "run one process" in problem
    assert problems("", {}, {"workers": 2})[0].startswith("--workers: ")
    found = load("server: {workers: 4}\nredis: redis://localhost\n")
    assert (found.server.workers, found.redis) == (4, RedisSettings(url=Secret("redis://localhost")))


def test_redis_is_an_address_or_a_mapping(
    load: Callable[..., Settings], problems: Callable[..., list[str]]
) -> None:
    text = "redis: {url: 'rediss://u:pass@cache:6380/1', prefix: tw, cluster: true, timeout: 100ms, heartbeat: 3s}\n"
    written = RedisSettings(
        url=Secret("rediss://u:pass@cache:6380/1"), prefix="tw", cluster=True, timeout=0.1, heartbeat=3.0
    )
    assert load(text).redis == written
    elsewhere = load(text, {"TOLLWAY_REDIS_URL": "redis://other"}).redis
    assert elsewhere == structs.replace(written, url=Secret("redis://other"))
    assert problems("redis: {prefix: tw}\n") == [
        "tollway.yaml:1: redis: url is missing: redis://… or rediss://…"
    ]
    (problem,) = problems("redis: http://u:hunter2hunter2@cache\n")
    assert problem == "tollway.yaml:1: redis: expected redis://… or rediss://…"


def test_the_database_is_a_file_a_server_or_none(problems: Callable[..., list[str]]) -> None:
    for address in ("mysql://user:secret@host/db", "host/db"):
        told = problems(f"\ndatabase: {address}\n")
        assert told == ["tollway.yaml:2: database: expected sqlite:///tollway.db, postgresql://… or none"]
    assert (
        "only a PostgreSQL database has one"
        in problems("\ndatabase_replica: postgresql://u:secret@h/db\n")[0]
    )
    told = problems("\ndatabase: postgres://h/db\ndatabase_replica: sqlite:///x.db\n")
    assert told == [
        "tollway.yaml:3: database_replica: expected postgresql://…, a copy of the database for reports"
    ]
    for address in ("sqlite://", "sqlite:///:memory:", "sqlite://tollway.db"):
        assert "three slashes and a file" in problems(f"database: '{address}'")[0]
    assert problems("", {"TOLLWAY_DATABASE_URL": "mysql://secret"}) == [
        "TOLLWAY_DATABASE_URL: expected sqlite:///tollway.db, postgresql://… or none"
    ]


def test_settings_of_later_versions_are_named(problems: Callable[..., list[str]]) -> None:
    for line in ("guardrails: [a]", "mcp_servers: {a: b}", "auth: [x]"):
        (problem,) = problems(line)
        assert problem.startswith("tollway.yaml:1: ")
        assert "not part of this version" in problem


def test_every_problem_is_found_in_the_order_of_the_file(problems: Callable[..., list[str]]) -> None:
    found = problems(
        "server: {hots: x, port: 70000}\nrequire_key: no\nprovders: {}\nkeys: {}\nlogs: 3\n"
        "admin_key: ${NOT_SET}\n"
    )
    assert [problem.split(": ")[0] for problem in found] == [
        "tollway.yaml:1",
        "tollway.yaml:1",
        "tollway.yaml:2",
        "tollway.yaml:3",
        "tollway.yaml:4",
        "tollway.yaml:5",
        "tollway.yaml:6",
    ]
    assert 'unknown setting "provders"; did you mean "providers"?' in found[3]


def test_reading_ends_where_everything_is_wrong(problems: Callable[..., list[str]]) -> None:
    found = problems("".join(f"setting{n}: 1\n" for n in range(50_000)))
    assert len(found) == 201
    assert found[-1] == "tollway.yaml: reading ended after 200 problems"
    assert len(problems("a: 1\n" * 50_000)) == 201


def test_unreadable_files(tmp_path: Path) -> None:
    for path in (str(tmp_path / "absent.yaml"), str(tmp_path), "a\0b"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_settings(path, {}, (), lambda environ: [])


def test_no_problem_repeats_a_secret(problems: Callable[..., list[str]]) -> None:
    secret = "Zq7secretsecretsecret"
    environ = {
        "S": secret,
        "TOLLWAY_PORT": secret,
        "TOLLWAY_DATABASE_URL": secret,
        "TOLLWAY_REDIS_URL": secret,
    }
    text = (
        "server: {host: ${S}, port: ${S}, workers: ${S}, max_body: ${S}, drain: ${S}, public_url: ${S}}\n"
        "require_key: ${S}\nunpriced: ${S}\ndatabase: ${S}\nadmin_key: ${S} é\n"
        "providers: {openai: {api_key: [${S}], type: ${S}, base_url: 'http://u:${S}@h',\n"
        "  headers: {x: ${S}é}}}\n"
        "models: {a: ${S}, b: {strategy: ${S}, targets: ['${S}/x'], retry: {on: ${S}, attempts: ${S}}}}\n"
        "keys:\n  - {name: ci, key: '${S} x', budget: ${S}, limits: {rpm: ${S}},\n"
        "     expires: ${S}, models: ${S}}\n"
        "  - {name: sk-tw-Zq7secretsecretsecret, key: ${S}}\n  - ${S}\n"
        "  - {name: c, key: good, models: ['${S}']}\n"
        "sinks: [${S}]\nlogs: {bodies: ${S}}\nspool: {fsync: ${S}}\n"
    )
    found = problems(text, environ)
    assert len(found) > 20
    assert not [problem for problem in found if "Zq7" in problem]


WORDS = st.sampled_from(
    re.split(
        r"\s+",
        """server host port admin_key require_key database redis providers openai api_key type base_url
        headers models targets model strategy fallback weight price input retry on attempts timeouts
        total keys name key budget usd per month limits rpm team sinks stdout file logs bodies spool
        fsync ${A} ${A:-b} ${ a/b *x &x << ~ true 5s 64MiB -1 0.5 .inf 9999999999999999999999
        openai/gpt-5 : - ? | > ' " { } [ ] , # --- !!str""",
    )
)
TEXT = st.lists(WORDS | st.sampled_from([": ", "\n", "\n  ", "\n  - ", "{", "}", "[", "]", ", "])).map(
    "".join
)


FEW = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)


def problems_or_none(load: Callable[..., Settings], data: bytes) -> list[str]:
    """Anything but ConfigError fails the test that calls this."""
    try:
        load(data, {"A": "a"})
    except ConfigError as error:
        return error.problems or ["an error without a problem"]
    return []


@FEW
@given(
    st.one_of(TEXT.map(str.encode), st.binary(), st.text().map(lambda text: text.encode("utf-8", "replace")))
)
@example(b"models: {a: {targets: *x}}")
@example(b'{"a": "\\ud83d\\ude00"}')
@example(b"keys: [{name: a, key: b, expires: 9999-12-31T23:59:59-14:00}]")
def test_whatever_the_file_holds_only_configuration_errors_come_out(
    load: Callable[..., Settings], data: bytes
) -> None:
    assert all(":" in problem for problem in problems_or_none(load, data))


NAMES = st.sampled_from(
    re.split(
        r"\s+",
        """server port providers openai api_key headers models m targets model price input retry on
        timeouts timeout total keys name key budget usd per limits rpm sinks type path logs bodies
        spool fsync metadata strategy""",
    )
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["openai/gpt", "m", "5s", "10usd/month", "${A}", "file", "fallback", "1e5", "2030-01-01"]
    )
)


@FEW
@given(
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6)
    )
)
def test_well_formed_nonsense_is_refused_not_crashed_on(load: Callable[..., Settings], value: object) -> None:
    found = problems_or_none(load, yaml.safe_dump(value).encode())
    assert all(re.search(r"tollway\.yaml:\d+: ", problem) for problem in found)


def test_the_process_environment_is_not_read(
    load: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "TOLLWAY_PORT", "1")
    assert load("").server.port == 4000
