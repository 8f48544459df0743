import pytest

from tollway.simulator.knobs import GRAMMAR, MALFORMED, NEUTRAL, Knobs, UnknownKnob, set_knobs, suffix


def test_every_knob_has_a_grammar_and_the_other_way_round():
    assert set(Knobs.__struct_fields__) == set(GRAMMAR)


def test_a_suffix_is_taken_apart_and_decoded():
    assert suffix("gpt-4o") == ("gpt-4o", [])
    base, settings = suffix("org/gpt-4o-mini+status=429+crlf+text=a%2Bb%20c")
    assert base == "org/gpt-4o-mini"
    assert settings == [("status", "429"), ("crlf", None), ("text", "a+b c")]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("latency", "20ms", (0.02, 0.02)),
        ("latency", "20", (0.02, 0.02)),
        ("latency", "10ms..1.5s", (0.01, 1.5)),
        ("pace", "250us", 0.00025),
        ("pace", "0", 0.0),
        ("errors", "1%", 0.01),
        ("errors", "0.25", 0.25),
        ("stall", "headers", "headers"),
        ("cut", "7", 7),
        ("echo", None, True),
        ("echo", "off", False),
        ("tool-calls", "off", False),
        ("error_event", None, 2),
        ("retry_after", "1500ms", "1500ms"),
        ("cached", "50%", "50%"),
        ("arguments", '{"a": 1}', '{"a": 1}'),
    ],
)
def test_values_are_read(name, text, value):
    assert getattr(set_knobs(NEUTRAL, [(name, text)]), name.replace("-", "_")) == value


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("tokes", "3", "Did you mean 'tokens'?"),
        ("wholly", None, "docs/guide/simulator.md"),
        ("tokens", None, "needs a value"),
        ("tokens", "-1", "a whole number"),
        ("latency", "80ms..10ms", "range"),
        ("latency", "fast", "duration"),
        ("errors", "1.5", "share"),
        ("errors", "x", "share"),
        ("status", "99", "200 to 599"),
        ("cut", "somewhere", "headers, body, chunk"),
        ("malformed", "everything", "status_line"),
        ("retry_after", "soon", "date:5"),
        ("echo", "maybe", "on or off"),
        ("cached", "many", "percentage"),
        ("arguments", "[1]", "a JSON object"),
    ],
)
def test_what_is_not_understood_is_named(name, text, says):
    with pytest.raises(UnknownKnob, match=name) as caught:
        set_knobs(NEUTRAL, [(name, text)])
    assert says in str(caught.value)


def test_the_guide_lists_every_knob(request):
    guide = (request.config.rootpath / "docs/guide/simulator.md").read_text()
    for name in [*GRAMMAR, *MALFORMED]:
        assert f"`{name}`" in guide, name
