"""Ids of tenants, made from their names. They stand in events, counters and addresses, and never change."""

from __future__ import annotations

import re
import unicodedata

from tollway.model.tenant import Level

LONGEST_ID = 200
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,199}", re.ASCII)
"""What an id of one's own may look like. A customer's and a tag's are free text: clients send them."""

FREE: frozenset[Level] = frozenset(("customer", "tag"))
_LONGEST_SLUG = 60


def slug(name: str) -> str:
    """``Search & Ads`` → ``search-ads``; what has no letters or digits left becomes ``x``."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST_SLUG].strip("-") or "x"


def tenant_id(level: Level, name: str, organization: str | None) -> str:
    """The id a tenant gets when it is free. Within an organization it begins with the organization's id and a dot, so
    that whether an id is taken never tells anything of another organization."""
    own = name if level in FREE else slug(name)
    return own if organization is None else f"{organization}.{own}"
