from tollway.simulator.tokens import WORDS, count, pieces, prose


def test_every_word_and_its_space_are_one_token():
    assert {len(word) for word in WORDS} == {3}


def test_prose_has_exactly_the_tokens_it_was_asked_for():
    for tokens in (1, 2, 31, 97, 1000):
        for start in (0, 5, 10**9):
            text = prose(tokens, start)
            assert count(text) == tokens
            assert len(text) == 4 * tokens
            assert text.endswith(".")
    assert prose(0) == ""


def test_prose_depends_on_its_start():
    assert prose(20, 3) == prose(20, 3)
    assert prose(20, 3) != prose(20, 4)


def test_tokens_are_counted_in_characters_not_bytes():
    assert [count(text) for text in ("", "a", "four", "fiver", "äöüß", "日本語です")] == [0, 1, 1, 2, 1, 2]


def test_pieces_join_to_the_text():
    text = prose(37) + "é"
    assert "".join(pieces(text)) == text
    assert len(pieces(text)) == count(text) == 38
    for parts in (1, 2, 7, 38, 100):
        cut = pieces(text, parts)
        assert "".join(cut) == text
        assert len(cut) == min(parts, 38)
        sizes = [count(piece) for piece in cut]
        assert sum(sizes) == 38
        assert max(sizes) - min(sizes) <= 1
    assert pieces("") == []
