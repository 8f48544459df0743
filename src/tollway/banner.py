"""What is printed when a gateway listens."""

from __future__ import annotations

from pathlib import Path

from tollway import __version__
from tollway.administrator import ADMIN_DIGEST
from tollway.app import Process


def banner(process: Process, port: int) -> str:
    """What a person needs after a start: where it is, the admin key (once), a request to paste."""
    settings = process.settings
    host = "127.0.0.1" if settings.server.host in ("0.0.0.0", "::") else settings.server.host  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    scheme = "https" if settings.server.tls_cert else "http"
    base = settings.server.public_url or f"{scheme}://{host}:{port}"
    names = list(process.services.snapshot.named())
    model = names[0] if names else next(iter(process.providers), "openai") + "/<model>"
    if not names and process.providers:
        first = next(iter(process.providers.values()))
        facts = next(
            (
                f
                for f in process.prices.models(first.entry.price_sheet)
                if f.mode == "chat" and f.deprecated is None
            ),
            None,
        )
        model = f"{first.name}/{facts.model}" if facts else model
    lines = [f"Tollway {__version__} is ready at {base}", f"  admin API    {base}/api/docs"]
    lines.append(f"  providers    {', '.join(process.providers)}")
    lines.append(f"  data         {Path(settings.data_dir).absolute()}")
    if process.demo is not None:
        lines.append(
            "  No provider key was found, so a simulated provider named 'mock' answers. Set OPENAI_API_KEY or"
        )
        lines.append("  write a tollway.yaml to use a real one.")
    key = "$TOLLWAY_ADMIN_KEY"  # in double quotes below: the shell fills it in
    if process.new_admin_key is not None:
        key = process.new_admin_key
        lines.append(f"  admin key    {key}   (shown this once; keep it)")
    elif settings.admin_key is None:
        lost = Path(settings.data_dir).absolute() / ADMIN_DIGEST
        lines.append(f"  admin key    shown at the first start. Lost? Delete {lost} and start again")
    if not settings.require_key:
        lines.append("  keys are not required: anybody who reaches this address may use it")
    lines += [
        "  try it:",
        f'    curl {base}/v1/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\',
        f'      -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Say hello."}}]}}\'',
    ]
    return "\n".join(lines)
