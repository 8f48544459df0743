"""Build the price book: read the public price lists, choose by rule, write one file a provider and a report.

    python scripts/build_prices.py --litellm model_prices.json --portkey pricing.json

The lists are inputs and stay outside the repository; genai-prices comes with the development dependencies.
Running it again on the same inputs changes nothing, the version's date included.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
from price_sources import genai, litellm, portkey
from price_sources.merge import Merged, merge
from price_sources.quote import CLASSES, Quote
from price_sources.report import summary, write_report
from rich.console import Console
from rich.progress import track

from tollway.model.price import Price, Rates, Tier
from tollway.pricing.book import INDEX, PRICES, Entry, Index

REPOSITORY = Path(__file__).resolve().parent.parent
REPORT = REPOSITORY / "docs" / "reference" / "price-sources.md"

# How a model's name tells its mode where no source does. The first that matches; otherwise it chats.
MODES = (
    ("embed", "embedding"),
    ("bge-", "embedding"),
    ("gte-", "embedding"),
    ("e5-", "embedding"),
    ("minilm", "embedding"),
    ("mpnet", "embedding"),
    ("msmarco", "embedding"),
    ("m2-bert", "embedding"),
    ("text2vec", "embedding"),
    ("uae-large", "embedding"),
    ("colbert", "embedding"),
    ("clip-vit", "embedding"),
    ("voyage-", "embedding"),
    ("ada-v2", "embedding"),
    ("rerank", "rerank"),
    ("moderation", "moderation"),
    ("whisper", "audio_transcription"),
    ("transcribe", "audio_transcription"),
    ("tts", "audio_speech"),
    ("speech", "audio_speech"),
    ("aura", "audio_speech"),
    ("realtime", "realtime"),
    ("voice", "realtime"),
    ("ocr", "ocr"),
    ("flux", "image"),
    ("dall-e", "image"),
    ("imagen", "image"),
    ("stable-diffusion", "image"),
    ("-image", "image"),
    ("veo-", "video"),
    ("sora", "video"),
)


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    arguments.add_argument("--litellm", type=Path, required=True, metavar="F", help="LiteLLM's map (JSON)")
    arguments.add_argument("--portkey", type=Path, required=True, metavar="F", help="Portkey's prices (JSON)")
    arguments.add_argument("--date", type=date.fromisoformat, default=None, help="default: today (UTC)")
    arguments.add_argument("--out", type=Path, default=PRICES, help="folder of the book")
    arguments.add_argument("--report", type=Path, default=REPORT, help="the committed report")
    given = arguments.parse_args()
    for path in (given.litellm, given.portkey):
        if not path.is_file():
            sys.exit(f"{path} is not a file: give the price lists with --litellm F --portkey F")
    day = given.date or datetime.now(UTC).date()

    console = Console(stderr=True)
    quotes = gather(given.litellm, given.portkey, day)
    progress = track(quotes.values(), "comparing sources", console=console, transient=True)
    models = [merge(of_one) for of_one in progress]
    models.sort(key=lambda m: (m.provider, m.model))
    version = write_book(models, given.out, day)
    write_report(models, litellm.left_out(given.litellm), given.report)
    console.print(summary(models, version))
    return 0


def gather(litellm_file: Path, portkey_file: Path, day: date) -> dict[tuple[str, str], list[Quote]]:
    """Quotes by provider and model, names compared without case; at most one quote a source."""
    found: dict[tuple[str, str], dict[str, Quote]] = {}
    # An id that carries its provider's prefix comes after the bare one and wins: it is the more particular.
    for quote in (*litellm.read(litellm_file), *portkey.read(portkey_file), *genai.read(day)):
        by_source = found.setdefault((quote.provider, quote.model.lower()), {})
        earlier = by_source.get(quote.source)
        if earlier is None or (quote.rates and not earlier.rates) or quote.prefixed:
            by_source[quote.source] = quote
    for (provider, _), by_source in found.items():
        if genai.SOURCE not in by_source:
            name = next(iter(by_source.values())).model
            seen = genai.witness(provider, name, day)
            if seen is not None and seen.rates:
                by_source[genai.SOURCE] = seen
    return {key: list(by_source.values()) for key, by_source in found.items()}


def entry(model: Merged) -> Entry:
    """The model as the book keeps it."""
    price = None
    if model.rates:
        price = Price(
            rates=rates(model.rates),
            tiers=tiers(model.tiers),
            variants={name: rates(of) for name, of in model.variants.items()},
            variant_tiers={name: tiers(of) for name, of in model.variant_tiers.items()},
            valid_from=model.valid_from,
            source="+".join(model.agreeing),
        )
    return Entry(
        mode=mode_of(model),
        max_input_tokens=model.max_input,
        max_output_tokens=model.max_output,
        deprecated=model.deprecated,
        price=price,
    )


def rates(of: dict[str, int]) -> Rates:
    return Rates(**{name: of[name] for name in CLASSES if name in of})


def tiers(of: dict[int, dict[str, int]]) -> tuple[Tier, ...]:
    return tuple(Tier(above=above, rates=rates(of[above])) for above in sorted(of))


def mode_of(model: Merged) -> str:
    """The source's word, save that nothing named an embedding chats; else what the rates or the name tell."""
    name = model.model.lower()
    if model.mode and not (model.mode == "chat" and "embed" in name):
        return model.mode
    if set(model.rates) == {"images"}:
        return "image"
    return next((mode for part, mode in MODES if part in name), "chat")


def write_book(models: list[Merged], folder: Path, day: date) -> str:
    """Write a file a provider and the index, remove files of providers that are gone. Returns the version."""
    folder.mkdir(parents=True, exist_ok=True)
    by_provider: dict[str, list[Merged]] = {}
    for model in models:
        by_provider.setdefault(model.provider, []).append(model)
    files: dict[str, bytes] = {}
    counts: dict[str, tuple[int, int]] = {}
    for provider, listed in sorted(by_provider.items()):
        lines = [msgspec.json.encode(m.model) + b": " + msgspec.json.encode(entry(m)) for m in listed]
        head = b'{"provider": ' + msgspec.json.encode(provider) + b', "models": {\n'
        files[f"{provider}.json"] = head + b",\n".join(lines) + b"\n}}\n"
        counts[provider] = (len(listed), sum(bool(m.rates) for m in listed))
    for stale in folder.glob("*.json"):
        if stale.name not in files and stale.name != INDEX:
            stale.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)

    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + content)
    version = f"{day.isoformat()}.{digest.hexdigest()[:8]}"
    index = folder / INDEX
    if index.exists():
        earlier = msgspec.json.decode(index.read_bytes(), type=Index).version
        if earlier.endswith(version[-9:]):
            version = earlier
    lines = [msgspec.json.encode(p) + b": " + msgspec.json.encode(c) for p, c in counts.items()]
    head = b'{"version": ' + msgspec.json.encode(version) + b', "providers": {\n'
    index.write_bytes(head + b",\n".join(lines) + b"\n}}\n")
    return version


if __name__ == "__main__":
    sys.exit(main())
