"""The bundled vocabularies are OpenAI's own, and counting in pieces counts what counting the whole would."""

from __future__ import annotations

import gzip
import inspect
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken import Encoding
from tiktoken_ext import openai_public

from tollway.tokens import vocabulary
from tollway.tokens.vocabulary import (
    FOLDER,
    PIECE,
    VOCABULARIES,
    TokenizerPanic,
    VocabularyError,
    count_piece,
    load,
    pieces,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def encodings() -> dict[str, Encoding]:
    return {name: load(name) for name in VOCABULARIES}


def in_pieces(encoding: Encoding, text: str) -> tuple[int, bool]:
    parts = list(pieces(text))
    assert "".join(part for part, _ in parts) == text
    assert all(len(part) <= PIECE for part, _ in parts)
    return sum(count_piece(encoding, part) for part, _ in parts), all(clean for _, clean in parts)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_hash_and_pattern_are_those_that_tiktoken_publishes(name: str) -> None:
    published = inspect.getsource(getattr(openai_public, name))
    assert VOCABULARIES[name].sha256 in published
    for part in VOCABULARIES[name].pattern.split("'s|'t|'re|'ve|'m|'ll|'d"):
        for piece in part.split("|" if name == "o200k_base" else "\0"):
            assert piece in published


def test_counts_are_those_of_the_cookbook(encodings: dict[str, Encoding]) -> None:
    old = encodings["cl100k_base"]
    assert old.encode_ordinary("tiktoken is great!") == [83, 1609, 5963, 374, 2294, 0]
    assert old.encode_ordinary("antidisestablishmentarianism") == [519, 85342, 34500, 479, 8997, 2191]
    assert len(old.encode_ordinary("お誕生日おめでとう")) == 9
    assert encodings["o200k_base"].encode_ordinary("hello world") == [24912, 2375]


def test_text_that_spells_a_special_token_is_text(encodings: dict[str, Encoding]) -> None:
    for encoding in encodings.values():
        assert count_piece(encoding, "<|endoftext|>") == 7
        assert count_piece(encoding, "<|im_start|>system") > 5


def test_lone_surrogates_count_like_the_replacement_character(encodings: dict[str, Encoding]) -> None:
    for encoding in encodings.values():
        assert count_piece(encoding, "a\ud800b\udfff") == count_piece(encoding, "a\ufffdb\ufffd")


def test_the_engine_panics_on_a_million_spaces_and_pieces_do_not(encodings: dict[str, Encoding]) -> None:
    with pytest.raises(TokenizerPanic):
        count_piece(encodings["o200k_base"], " " * 1_000_000)
    for encoding in encodings.values():
        tokens, clean = in_pieces(encoding, " " * 1_000_000)
        assert 1_000 < tokens < 20_000
        assert not clean


@pytest.mark.parametrize(
    "unit", [" ", "a", "A", "\n", "\t", "'", ".", "1", "\u0301", "漢", "😀", "Á", " \n", "A\u0301", "\x00"]
)
def test_no_single_character_repeated_panics_in_the_largest_piece(
    encodings: dict[str, Encoding], unit: str
) -> None:
    for encoding in encodings.values():
        piece = (unit * PIECE)[:PIECE]
        assert count_piece(encoding, piece) > 0
        assert count_piece(encoding, piece[:-1] + "x") > 0


CHUNKS = [
    "it's",
    "WE'LL",
    "   ",
    " ",
    "\n\n",
    " \n ",
    "\r\n",
    "abc",
    "123",
    "1,234.5",
    ". ",
    "é",
    "漢字。",
    "、",
    "🙂",
    "\t",
]
WORDS = st.lists(
    st.one_of(st.sampled_from(CHUNKS), st.characters(codec="utf-8"), st.sampled_from("\u0301\u00a0\x1c'_")),
    min_size=1,
    max_size=12,
).map("".join)


@settings(max_examples=500, deadline=None)
@given(text=WORDS, unit=WORDS)
def test_a_clean_cut_changes_no_count(encodings: dict[str, Encoding], text: str, unit: str) -> None:
    with pytest.MonkeyPatch.context() as small:
        small.setattr(vocabulary, "PIECE", 12)
        small.setattr(vocabulary, "_WINDOW", 11)
        whole = text + unit * 6
        parts = list(pieces(whole))
    assert "".join(part for part, _ in parts) == whole
    for encoding in encodings.values():
        # Between two unclean cuts everything is counted like one text.
        expected, run = 0, ""
        for part, clean in parts:
            run += part
            if not clean:
                expected, run = expected + len(encoding.encode_ordinary(run)), ""
        expected += len(encoding.encode_ordinary(run))
        assert sum(count_piece(encoding, part) for part, _ in parts) == expected


def test_long_prose_and_code_count_like_the_whole(encodings: dict[str, Encoding]) -> None:
    prose = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8") * 8
    code = Path(inspect.getfile(openai_public)).read_text(encoding="utf-8") * 20
    rows = "".join(f"{number},{number * 7},x\n" for number in range(12_000))
    for encoding in encodings.values():
        for text in (prose, code, rows):
            assert len(text) > 2 * PIECE
            assert in_pieces(encoding, text) == (len(encoding.encode_ordinary(text)), True)


def test_a_damaged_or_missing_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"o200k_base\.tiktoken\.gz cannot be read"):
        load("o200k_base", tmp_path)
    path = tmp_path / "o200k_base.tiktoken.gz"
    path.write_bytes(b"\x1f\x8b and then nothing of the kind")
    with pytest.raises(VocabularyError, match="cannot be read"):
        load("o200k_base", tmp_path)
    whole = (FOLDER / "o200k_base.tiktoken.gz").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VocabularyError, match="cannot be read"):
        load("o200k_base", tmp_path)
    path.write_bytes(gzip.compress(gzip.decompress(whole).replace(b"IQ== 0", b"IQ== 1", 1), 1))
    with pytest.raises(VocabularyError, match="SHA-256 differs"):
        load("o200k_base", tmp_path)
    with pytest.raises(VocabularyError, match="no vocabulary 'gpt2' is bundled"):
        load("gpt2")


def test_the_licence_travels_with_the_vocabularies() -> None:
    text = (FOLDER / "NOTICE").read_text(encoding="utf-8")
    assert "MIT License" in text
    assert "Copyright (c) 2022 OpenAI, Shantanu Jain" in text
    for name in VOCABULARIES:
        assert f"{name}.tiktoken.gz" in text


def fetch(wheel: Path, out: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts" / "fetch_vocabularies.py"
    command = [sys.executable, str(script), "--wheel", str(wheel), "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_packs_what_is_bundled_and_refuses_another_vocabulary(tmp_path: Path) -> None:
    wheel, out = tmp_path / "bpe.whl", tmp_path / "out"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in VOCABULARIES:
            archive.write(FOLDER / f"{name}.tiktoken.gz", f"bpe_openai/data/{name}.tiktoken.gz")
    assert fetch(wheel, out).returncode == 0
    for name in VOCABULARIES:
        assert (out / f"{name}.tiktoken.gz").read_bytes() == (FOLDER / f"{name}.tiktoken.gz").read_bytes()
    shutil.rmtree(out)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in VOCABULARIES:
            archive.writestr(f"bpe_openai/data/{name}.tiktoken.gz", gzip.compress(b"IQ== 0\n"))
    refused = fetch(wheel, out)
    assert refused.returncode == 1
    assert "is not the published" in refused.stderr
    assert not out.exists()
