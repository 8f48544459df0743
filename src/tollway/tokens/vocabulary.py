"""The bundled vocabularies: checked, made into tokenizers, and texts counted with them in pieces.

tiktoken's own loader is never called, since it downloads. Texts are cut first: on a run of a million spaces
tiktoken's regex engine panics, and a piece is how often a count can be given up.
"""

from __future__ import annotations

import binascii
import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from zlib import error as ZlibError

from msgspec import Struct
from tiktoken import Encoding

FOLDER = Path(__file__).parent / "vocabularies"
PIECE = 32_768
"""Characters. A tenth of what was seen to panic at the least, and some ten milliseconds of counting at the worst."""
_WINDOW = 2_048


class VocabularyError(Exception):
    """A bundled vocabulary is missing, damaged or unknown; the message says which."""


class TokenizerPanic(Exception):
    """tiktoken's engine gave up on a text. It raises a BaseException, which would end a thread or a server."""


class Vocabulary(Struct, frozen=True, kw_only=True):
    """``sha256`` is of the unpacked file and ``pattern`` cuts text into words, both as OpenAI publishes them in
    tiktoken; ``bytes_per_token`` is the mean over prose, code, JSON and messages in several languages."""

    sha256: str
    pattern: str
    bytes_per_token: float


VOCABULARIES = {
    "o200k_base": Vocabulary(
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        pattern="|".join(
            (
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"\p{N}{1,3}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
                r"\s*[\r\n]+",
                r"\s+(?!\S)",
                r"\s+",
            )
        ),
        bytes_per_token=3.5,
    ),
    "cl100k_base": Vocabulary(
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        pattern=(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
            r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
        ),
        bytes_per_token=3.1,
    ),
}


def load(name: str, folder: Path = FOLDER) -> Encoding:
    """The tokenizer of a bundled vocabulary: a quarter to half a second and some 60 MB. For some 150 ms of it no other
    thread runs. Raises VocabularyError."""
    vocabulary = VOCABULARIES.get(name)
    if vocabulary is None:
        raise VocabularyError(f"no vocabulary {name!r} is bundled, only {', '.join(VOCABULARIES)}")
    path = folder / f"{name}.tiktoken.gz"
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, ZlibError) as error:
        raise VocabularyError(f"{path.name} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != vocabulary.sha256:
        raise VocabularyError(f"{path.name} is not the vocabulary OpenAI publishes: its SHA-256 differs")
    lines = (line.partition(b" ") for line in content.split(b"\n") if line)
    ranks = {binascii.a2b_base64(token): int(rank) for token, _, rank in lines}
    # Special tokens are left out: text that spells one is text, and counts as such.
    encoding = Encoding(name, pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens={})
    # The engine has its own copy; only decoding would look here.
    ranks.clear()
    return encoding


def count_piece(encoding: Encoding, piece: str) -> int:
    """Tokens of a text of at most ``PIECE`` characters. Lone surrogates count as U+FFFD. Raises TokenizerPanic."""
    try:
        return len(encoding.encode_ordinary(piece))
    except BaseException as error:
        # The class comes from Rust and can be imported from nowhere, so it is known by its name.
        if type(error).__name__ != "PanicException":
            raise
        raise TokenizerPanic(f"the tokenizer gave up on {len(piece)} characters") from None


# Where every pattern above begins a new word whatever surrounds it, so that pieces cut there count like the whole.
_BOUNDARY = re.compile(r"(?<=\S) |(?<=[^\W_])[\n.,;:!?。、，；：！？]")


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """``text`` in order, and of each piece whether it was cut where counts stay the same (or not cut at all)."""
    start = 0
    while len(text) - start > PIECE:
        limit = start + PIECE
        end = max(
            (found.start() for found in _BOUNDARY.finditer(text, limit - _WINDOW, limit)), default=limit
        )
        yield text[start:end], end < limit
        start = end
    yield text[start:], True
