"""The small sections: ``server:``, ``redis:``, ``sinks:``, ``logs:`` and ``spool:``."""

from __future__ import annotations

from tollway.config import reading
from tollway.config.reading import Table
from tollway.config.report import Bad, Report
from tollway.config.settings import LogSettings, RedisSettings, ServerSettings, SinkSettings, SpoolSettings
from tollway.config.yaml_marks import Node, Scalar
from tollway.model.secret import Secret

_KIB = 1024
_GIB = 1024**3

PORT = reading.integer(0, 65535)


def read_server(node: Node, report: Report) -> ServerSettings:
    table = Table(node, report, "server")
    usual = ServerSettings()
    found = ServerSettings(
        host=table.get("host", reading.name, usual.host),
        port=table.get("port", PORT, usual.port),
        public_url=table.get("public_url", reading.url("http", "https"), None),
        workers=table.get("workers", reading.integer(1, 1024), usual.workers),
        max_body=table.get("max_body", reading.size(_KIB, 4 * _GIB), usual.max_body),
        max_upload=table.get("max_upload", reading.size(_KIB, 1024 * _GIB), usual.max_upload),
        max_header=table.get("max_header", reading.size(_KIB, 16 * 1024 * _KIB), usual.max_header),
        max_connections=table.get("max_connections", reading.integer(1, 10_000_000), usual.max_connections),
        header_timeout=table.get("header_timeout", reading.duration, usual.header_timeout),
        body_timeout=table.get("body_timeout", reading.duration, usual.body_timeout),
        write_timeout=table.get("write_timeout", reading.duration, usual.write_timeout),
        keep_alive=table.get("keep_alive", reading.duration, usual.keep_alive),
        drain=table.get("drain", reading.any_duration, usual.drain),
        max_message=table.get("max_message", reading.size(_KIB, _GIB), usual.max_message),
        session_idle=table.get("session_idle", reading.duration, usual.session_idle),
        session_total=table.get("session_total", reading.duration, usual.session_total),
        tls_cert=table.get("tls_cert", reading.text, None),
        tls_key=table.get("tls_key", reading.text, None),
    )
    table.finish()
    if table.has("tls_cert") != table.has("tls_key"):
        report.add(table.line, "server: tls_cert and tls_key belong together; one of them is missing")
    return found


def read_redis(node: Node, report: Report) -> RedisSettings:
    """``redis://host:6379/0``, or a mapping with ``url`` and what else there is to say."""
    if isinstance(node, Scalar):
        return RedisSettings(url=_redis_url(node, report))
    table = Table(node, report, "redis")
    url = table.get("url", _redis_url, None)
    usual = RedisSettings(url=Secret(""))
    found = RedisSettings(
        url=url or usual.url,
        prefix=table.get("prefix", reading.name, usual.prefix),
        cluster=table.get("cluster", reading.boolean, usual.cluster),
        connect_timeout=table.get("connect_timeout", reading.duration, usual.connect_timeout),
        timeout=table.get("timeout", reading.duration, usual.timeout),
        heartbeat=table.get("heartbeat", reading.duration, usual.heartbeat),
    )
    table.finish()
    if url is None and not table.has("url"):
        raise Bad("url is missing: redis://… or rediss://…")
    return found


def _redis_url(node: Node, report: Report) -> Secret:
    """Never repeated in a message: it may hold a password."""
    found = reading.text_of(node).strip()
    if found.partition("://")[0] not in ("redis", "rediss"):
        raise Bad("expected redis://… or rediss://…")
    password = found.partition("://")[2].rpartition("@")[0].partition(":")[2]
    if password:
        report.hide(password)
    return Secret(found)


def read_sink(node: Node, report: Report) -> SinkSettings:
    """``stdout``, or ``{type: file, path: events.jsonl}``."""
    kinds = reading.choice("stdout", "file")
    if isinstance(node, Scalar):
        if node.text == "file":
            raise Bad("a file sink needs a path: {type: file, path: …}")
        return SinkSettings(type=kinds(node, report))  # type: ignore[arg-type]
    table = Table(node, report, "sink")
    kind = table.get("type", kinds, None)
    path = table.get("path", reading.text, None)
    table.finish()
    if kind is None and not table.has("type"):
        raise Bad("type is missing: stdout or file")
    if kind == "file" and path is None and not table.has("path"):
        raise Bad("a file sink needs a path")
    if kind == "stdout" and path is not None:
        raise Bad("a stdout sink has no path")
    return SinkSettings(type="file" if kind == "file" else "stdout", path=path)


def read_logs(node: Node, report: Report) -> LogSettings:
    table = Table(node, report, "logs")
    usual = LogSettings()
    bodies = table.get("bodies", reading.choice("off", "errors", "all"), None)
    responses = table.get("responses", reading.choice("keep", "off"), None)
    found = LogSettings(
        max_bytes=table.get("max_bytes", reading.size(0, _GIB), usual.max_bytes),
        retention=table.get("retention", reading.duration, usual.retention),
        events_retention=table.get("events_retention", reading.duration, None),
        hours_retention=table.get("hours_retention", reading.duration, usual.hours_retention),
        bodies="off" if bodies is None else bodies,  # type: ignore[arg-type]
        responses="off" if responses == "off" else "keep",
        responses_retention=table.get("responses_retention", reading.duration, usual.responses_retention),
    )
    table.finish()
    return found


def read_spool(node: Node, report: Report) -> SpoolSettings:
    table = Table(node, report, "spool")
    usual = SpoolSettings()
    found = SpoolSettings(
        segment_bytes=table.get("segment_bytes", reading.size(64 * _KIB, _GIB), usual.segment_bytes),
        max_bytes=table.get("max_bytes", reading.size(1024 * _KIB, 1024 * _GIB), usual.max_bytes),
        fsync=table.get("fsync", _fsync, usual.fsync),
    )
    table.finish()
    if found.max_bytes < 2 * found.segment_bytes:
        report.add(table.line, "spool: max_bytes must hold at least two segments (segment_bytes)")
    return found


def _fsync(node: Node, report: Report) -> float | None:
    if isinstance(node, Scalar) and node.text == "off":
        return None
    try:
        return reading.any_duration(node, report)
    except Bad:
        raise Bad("expected a duration such as 1s, or off") from None
