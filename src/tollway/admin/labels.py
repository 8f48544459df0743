"""Names, descriptions, metadata and expiries, as requests give them: checked, in one place for all nouns."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from tollway.admin.times import ahead
from tollway.errors import BadRequest

_LONGEST_NAME = 100
_LONGEST_DESCRIPTION = 1000

Name = Annotated[
    str,
    Meta(
        description="1 to 100 printable characters, none of `/ ? # %`. Unique within its organization.",
        extra_json_schema={"minLength": 1, "maxLength": 100},
    ),
]
Expiry = Annotated[
    str, Meta(description="A span from now (`30d`, `12h`) or a future ISO 8601 time, UTC without an offset.")
]


def name(text: str) -> str:
    written = text.strip()
    if not 1 <= len(written) <= _LONGEST_NAME:
        raise BadRequest(f"name must have 1 to {_LONGEST_NAME} characters", param="name")
    if not written.isprintable() or set(written) & set("/?#%"):
        raise BadRequest("name must be printable, without / ? # or %: it stands in addresses", param="name")
    return written


def described(text: str) -> str:
    if len(text) > _LONGEST_DESCRIPTION or not text.replace("\n", "").isprintable():
        raise BadRequest(
            f"description must have at most {_LONGEST_DESCRIPTION} printable characters", param="description"
        )
    return text.strip()


def label(text: str | None, param: str) -> str | None:
    """A team, user or customer: 1 to 200 printable characters, or None."""
    if text is None:
        return None
    written = text.strip()
    if not 1 <= len(written) <= 200 or not written.isprintable():
        raise BadRequest(f"{param} must have 1 to 200 printable characters, or be null", param=param)
    return written


def email(text: str | None) -> str | None:
    if text is None:
        return None
    written = text.strip().casefold()
    if not 3 <= len(written) <= 254 or written.count("@") != 1 or not written.isprintable() or " " in written:
        raise BadRequest("email must be an address such as ada@example.com", param="email")
    return written


def metadata(given: dict[str, str]) -> dict[str, str]:
    if len(given) > 64:
        raise BadRequest("metadata has more than 64 entries", param="metadata")
    for key, value in given.items():
        if not 1 <= len(key) <= 64 or len(value) > 4096 or "\0" in key + value:
            raise BadRequest(
                "metadata takes names of 1 to 64 and values of up to 4096 characters", param="metadata"
            )
    return dict(given)


def expiry(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    moment = ahead(text, now, param="expires")
    if moment <= now:
        raise BadRequest("expires lies in the past; block or revoke to end it now", param="expires")
    return moment
