"""Where usage events go besides the database: one sink a file, all listed in ``open_sinks``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tollway.config.settings import SinkSettings
from tollway.sinks.file import FileSink
from tollway.sinks.interface import LogSink
from tollway.sinks.stdout import StdoutSink


def open_sinks(settings: Iterable[SinkSettings], data_dir: Path) -> list[LogSink]:
    """Relative paths lie in ``data_dir``. Nothing is opened before the first batch."""
    return [
        StdoutSink() if sink.type == "stdout" else FileSink(data_dir / (sink.path or "events.ndjson"))
        for sink in settings
    ]
