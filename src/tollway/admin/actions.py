"""Every admin action there is, listed by hand. What is not here has no route and no documentation."""

from __future__ import annotations

from msgspec import Struct

from tollway.admin import configuration, events, keys, models, usage
from tollway.admin.action import Action

ACTIONS: tuple[Action[..., Struct], ...] = (
    keys.create,
    keys.list_,
    keys.get,
    keys.update,
    keys.block,
    keys.unblock,
    keys.revoke,
    keys.rotate,
    events.list_,
    usage.report,
    models.list_,
    models.providers,
    configuration.effective,
    configuration.reload,
    configuration.status,
)
