"""``tollway serve``: hands the options to the server, which reads the configuration itself."""

from __future__ import annotations

import click

from tollway.cli.loading import config_option


@click.command(epilog="Example: tollway serve --config tollway.yaml --port 8080")
@config_option
@click.option("--host", help="Address to listen on (127.0.0.1 unless configured).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (4000 unless configured).")
@click.option("--workers", type=click.IntRange(1), help="Processes; more than one need redis: configured.")
@click.pass_context
def serve(
    ctx: click.Context, config: str | None, host: str | None, port: int | None, workers: int | None
) -> None:
    """Run the gateway.

    Without a configuration it serves every provider whose usual key is in the environment
    (OPENAI_API_KEY, ANTHROPIC_API_KEY, …). Options win over TOLLWAY_* variables, those over the file.
    """
    from tollway.serving import run

    given = {"host": host, "port": port, "workers": workers}
    ctx.exit(run(config, {name: value for name, value in given.items() if value is not None}))
