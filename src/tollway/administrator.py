"""What a first start leaves in the data directory: its id, and the digest of an admin key where the configuration names
none."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from tollway.config.settings import Settings
from tollway.errors import ConfigError

ADMIN_DIGEST = "admin_key.sha256"
ID = "id"


def prepare(settings: Settings) -> str | None:
    """Make the data directory, its id, and an admin key where one is needed and there is none yet. Returns a key
    that was made: it is shown once. Raises ConfigError."""
    data_dir = Path(settings.data_dir)
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not read_id(settings):
            (data_dir / ID).write_text(secrets.token_hex(8) + "\n")
        if settings.admin_key is not None or read_digest(settings) is not None:
            return None
        key = "sk-tw-admin-" + secrets.token_urlsafe(32)
        descriptor = os.open(data_dir / ADMIN_DIGEST, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(sha256(key.encode()).hexdigest() + "\n")
    except OSError as error:
        raise unwritable(data_dir, error) from error
    return key


def read_id(settings: Settings) -> str:
    """What tells this data directory from others, for processes that share it; empty before it was prepared."""
    with suppress(OSError):
        return (Path(settings.data_dir) / ID).read_text().strip()
    return ""


def read_digest(settings: Settings) -> bytes | None:
    """The digest of the key that was made; None when the configuration names one, or none was made."""
    if settings.admin_key is not None:
        return None
    with suppress(OSError, ValueError):
        digest = bytes.fromhex((Path(settings.data_dir) / ADMIN_DIGEST).read_text().strip())
        if len(digest) == 32:
            return digest
    return None


def unwritable(data_dir: Path, error: OSError) -> ConfigError:
    return ConfigError(
        [
            f"The data directory {data_dir} cannot be written: {error.strerror or error}. Set TOLLWAY_DATA_DIR "
            "or data_dir to one that this user may write."
        ]
    )
