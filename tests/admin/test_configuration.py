"""The configuration as it is shown: complete, and without a secret."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tollway.admin import configuration
from tollway.admin.context import NOBODY
from tollway.admin.models import redacted
from tollway.config.settings import LogSettings, ModelSettings, ServerSettings, Settings, TargetSettings
from tollway.errors import BadRequest, ConfigError, Forbidden
from tollway.model.price import Rates

SHOWN_ELSEWHERE = {"admin_key": "admin_key_set", "discovered": "providers"}


async def test_every_setting_is_shown(world):
    shown = await configuration.effective(world.context)
    names = {SHOWN_ELSEWHERE.get(name, name) for name in Settings.__struct_fields__}
    assert names <= set(shown.__struct_fields__)


async def test_secrets_are_left_out(world):
    text = msgspec.json.encode(await configuration.effective(world.context)).decode()
    for secret in ("tw-admin-0123456789abcdef", "sk-provider-secret", "hunter2", "header-secret", "f" * 64):
        assert secret not in text
    assert "redis://***@cache:6379/0" in text
    assert '"admin_key_set":true' in text


async def test_what_is_set_is_what_is_shown(world):
    target = TargetSettings(model="openai/gpt-5", weight=3, rates=Rates(input=150_000_000))
    world.settings = msgspec.structs.replace(
        world.settings,
        server=ServerSettings(port=4100),
        logs=LogSettings(bodies="errors"),
        models=(ModelSettings(name="fast", strategy="single", targets=(target,)),),
    )
    shown = await configuration.effective(world.context)
    assert shown.server.port == 4100
    assert shown.logs.bodies == "errors"
    assert shown.models[0].targets[0].weight == 3
    assert msgspec.to_builtins(shown.models[0].targets[0].usd_per_million) == {"input": 0.15}
    assert {each.name: each.source for each in shown.providers} == {"local": "file", "openai": "environment"}
    assert [(key.name, key.status) for key in shown.keys] == [("from-file", "active")]


async def test_a_refused_reload_lists_every_problem(world):
    problems = ["line 3: unknown key", "line 9: no such provider"]

    async def refuse() -> list[str]:
        raise ConfigError(problems)

    with pytest.raises(BadRequest) as refused:
        await configuration.reload(replace(world.context, reload=refuse))
    assert refused.value.details == {"problems": problems}
    assert "line 9" in refused.value.message
    assert world.snapshot.generation == 1


async def test_reload_takes_the_new_one(world):
    world.waiting = ["server takes effect at the next start"]
    reloaded = await configuration.reload(world.context)
    assert (reloaded.generation, reloaded.waiting) == (2, ("server takes effect at the next start",))
    with pytest.raises(Forbidden):
        await configuration.reload(world.context.acting(NOBODY))
    assert world.snapshot.generation == 2


async def test_status(world):
    assert (await configuration.status(world.context)).status == "ok"
    world.degraded = {"redis": "refuses connections"}
    shown = await configuration.status(world.context)
    assert (shown.status, shown.parts, shown.models) == ("degraded", {"redis": "refuses connections"}, 2)


@pytest.mark.parametrize("password", ["plain", "a/b", "a?b", "a#b", "a@b", "a@b/c", "a@b?c"])
def test_no_piece_of_a_password_is_shown(password):
    shown = redacted(f"postgresql://tollway:{password}@db.example:5432/tollway")
    assert shown in ("postgresql://***", "postgresql://***@db.example:5432/tollway")
