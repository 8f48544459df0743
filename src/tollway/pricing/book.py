"""The price book: what every known model costs at every known provider, from the files beside this module.

A provider's file is read when it is first asked for and a model is decoded when it is first looked up.
Names are matched whole: a dated or suffixed name that the book does not list has no price. Never touches
the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from tollway.model.price import Price

PRICES = Path(__file__).parent / "prices"
INDEX = "_index.json"


class ModelFacts(Struct, frozen=True, kw_only=True):
    """What the book knows of a model at a provider.

    ``mode`` is what it does (chat, responses, completion, embedding, rerank, image, image_edit, video,
    audio_speech, audio_transcription, realtime, moderation, ocr, search ...), the limits are tokens,
    ``deprecated`` the ISO date on which the provider retires it. ``price`` None: unpriced.
    """

    provider: str
    model: str
    mode: str = "chat"
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    deprecated: str | None = None
    price: Price | None = None


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One model's line in a provider's file."""

    mode: str = "chat"
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    deprecated: str | None = None
    price: Price | None = None


class ProviderFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``<provider>.json``: entries by model name, sorted, one a line."""

    provider: str
    models: dict[str, Raw]


class Index(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``_index.json``: the book's version and each provider's count of models and of priced models."""

    version: str
    providers: dict[str, tuple[int, int]]


_INDEX = msgspec.json.Decoder(Index)
_FILE = msgspec.json.Decoder(ProviderFile)
_ENTRY = msgspec.json.Decoder(Entry)


class PriceBook:
    """Prices and facts by provider and model. Make one with ``load()``; looking up is a dictionary access."""

    def __init__(self, folder: Path, index: Index) -> None:
        self._folder = folder
        self._index = index
        self._lines: dict[str, dict[str, Raw]] = {}
        self._folded: dict[str, dict[str, str]] = {}
        self._facts: dict[tuple[str, str], ModelFacts] = {}

    @classmethod
    def load(cls, folder: Path = PRICES) -> PriceBook:
        """The bundled book, or one in the same format elsewhere. Raises OSError or msgspec.DecodeError."""
        return cls(folder, _INDEX.decode((folder / INDEX).read_bytes()))

    @property
    def version(self) -> str:
        """Build date and content hash: ``2026-11-22.ab12cd34``."""
        return self._index.version

    @property
    def providers(self) -> tuple[str, ...]:
        """Every provider with a file in the book."""
        return tuple(self._index.providers)

    def price(self, provider: str, model: str) -> Price | None:
        """The price of ``model`` at ``provider``, its version set; None when it is unknown or unpriced."""
        facts = self.model(provider, model)
        return None if facts is None else facts.price

    def model(self, provider: str, model: str) -> ModelFacts | None:
        """What is known of one model, None when the book does not list it. Case does not matter."""
        known = self._facts.get((provider, model))
        if known is not None:
            return known
        lines = self._provider(provider)
        name = model
        if name not in lines:
            name = self._folded[provider].get(model.lower(), "") if lines else ""
        if name not in lines:
            return None
        facts = self._facts.get((provider, name)) or self._decode(provider, name, lines[name])
        # Only listed names are kept: what clients misspell must not grow this table.
        self._facts[provider, name] = facts
        return facts

    def models(self, provider: str | None = None) -> Iterator[ModelFacts]:
        """Every listed model, priced or not, by provider and name. An unknown provider has none."""
        for name in self._index.providers if provider is None else (provider,):
            for model, line in self._provider(name).items():
                yield self._facts.get((name, model)) or self._decode(name, model, line)

    def _provider(self, provider: str) -> dict[str, Raw]:
        lines = self._lines.get(provider)
        if lines is not None:
            return lines
        if provider not in self._index.providers:
            return {}
        lines = _FILE.decode((self._folder / f"{provider}.json").read_bytes()).models
        self._folded[provider] = {model.lower(): model for model in lines}
        self._lines[provider] = lines
        return lines

    def _decode(self, provider: str, model: str, line: Raw) -> ModelFacts:
        entry = _ENTRY.decode(line)
        price = entry.price
        return ModelFacts(
            provider=provider,
            model=model,
            mode=entry.mode,
            max_input_tokens=entry.max_input_tokens,
            max_output_tokens=entry.max_output_tokens,
            deprecated=entry.deprecated,
            price=None if price is None else replace(price, version=self.version),
        )
