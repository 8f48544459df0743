"""A conversation written as a generateContent body. The model stands in the URL, so it is not in the body.

Tool and answer schemas go into ``parametersJsonSchema`` and ``responseJsonSchema``, which take JSON Schema as it is.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.codec import Profile
from tollway.wire.conversation import Conversation, Extra, Written
from tollway.wire.formats.gemini_generate.shapes import FAMILY, TIERS, before_gemini_3, given
from tollway.wire.formats.gemini_generate.thinking import write_thinking
from tollway.wire.formats.gemini_generate.tools import write_choice, write_tools
from tollway.wire.formats.gemini_generate.turns import write_turns
from tollway.wire.turns import Losses

Object = dict[str, object]

MOST_STOPS = 5
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, object]).decode
_TIERS = {ours: theirs for theirs, ours in TIERS.items()}
_MODALITIES = {"text": "TEXT", "image": "IMAGE", "audio": "AUDIO", "video": "VIDEO"}
_NESTED = frozenset(("generationConfig", "toolConfig"))


def write_request(conversation: Conversation, profile: Profile) -> Written:
    """The body, and what it does not say. Raises BadRequest for what no Gemini model takes."""
    lost = Losses()
    contents, system = write_turns(conversation.messages, profile, lost)
    body: Object = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    tools, functions = write_tools(conversation, profile, lost)
    if tools:
        body["tools"] = tools
    calling = write_choice(conversation, functions, lost)
    if calling:
        body["toolConfig"] = {"functionCallingConfig": calling}
    config = _config(conversation, profile, functions, lost)
    if config:
        body["generationConfig"] = config
    if conversation.service_tier is not None:
        tier = _TIERS.get(conversation.service_tier)
        if tier is None:
            lost.hint("service_tier")
        elif tier != "unspecified":
            body["serviceTier"] = tier
    if conversation.store is not None:
        body["store"] = conversation.store
    _lost_fields(conversation, lost)
    for extra in conversation.extra:
        _extra(extra, body, lost)
    try:
        return Written(body=_encode(body), lost=lost.all())
    except RecursionError:
        raise BadRequest("The request is nested too deeply.") from None


def _config(conversation: Conversation, profile: Profile, functions: bool, lost: Losses) -> Object:
    told: Object = {}
    for name, value in (
        ("temperature", conversation.temperature),
        ("topP", conversation.top_p),
        ("topK", conversation.top_k),
        ("maxOutputTokens", conversation.max_tokens),
        ("presencePenalty", conversation.presence_penalty),
        ("frequencyPenalty", conversation.frequency_penalty),
        ("logprobs", conversation.top_logprobs),
    ):
        if value is not None:
            told[name] = value
    if conversation.seed is not None:
        if -(2**31) <= conversation.seed < 2**31:
            told["seed"] = conversation.seed
        else:
            lost.hint("seed")  # 32 bits are all the field holds
    if conversation.n != 1:
        told["candidateCount"] = conversation.n
    stops = [stop for stop in conversation.stop if stop]
    if len(stops) > MOST_STOPS:
        lost.meaning("stop")
        stops = stops[:MOST_STOPS]
    if stops:
        told["stopSequences"] = stops
    if conversation.logprobs or conversation.top_logprobs:
        told["responseLogprobs"] = True
    if conversation.modalities:
        _modalities(conversation, told, lost)
    _response_format(conversation, profile, functions, told, lost)
    if conversation.reasoning is not None:
        thinking = write_thinking(conversation.reasoning, profile, conversation.max_tokens, lost)
        if thinking:
            told["thinkingConfig"] = thinking
    return told


def _modalities(conversation: Conversation, told: Object, lost: Losses) -> None:
    known = [_MODALITIES[each] for each in conversation.modalities if each in _MODALITIES]
    if len(known) < len(conversation.modalities):
        lost.meaning("modalities")
    if not known:
        return
    if known == ["TEXT", "AUDIO"] or known == ["AUDIO", "TEXT"]:
        # Gemini speaks or writes, not both; OpenAI's clients must name both to hear anything.
        known = ["AUDIO"]
    if known != ["TEXT"]:
        told["responseModalities"] = known
    if "AUDIO" not in known or not given(conversation.audio):
        return
    audio = _decode(conversation.audio)
    voice = audio.get("voice")
    if isinstance(voice, str):
        told["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}}
    elif voice is not None:
        lost.hint("audio.voice")
    if audio.get("format") not in (None, "pcm16"):
        lost.hint("audio.format")


def _response_format(
    conversation: Conversation, profile: Profile, functions: bool, told: Object, lost: Losses
) -> None:
    wanted = conversation.response_format
    if wanted is None:
        return
    if functions and before_gemini_3(profile.model):
        # Refused before Gemini 3: an answer in JSON and function calling at once.
        lost.meaning("response_format")
        return
    told["responseMimeType"] = "application/json"
    if wanted.kind == "json_schema" and given(wanted.schema):
        if profile.schema:
            told["responseJsonSchema"] = wanted.schema
        else:
            lost.meaning("response_format")


def _lost_fields(conversation: Conversation, lost: Losses) -> None:
    for name, value in (
        ("min_p", conversation.min_p),
        ("verbosity", conversation.verbosity),
        ("metadata", conversation.metadata or None),
        ("user", conversation.user),
        ("safety_identifier", conversation.safety_identifier),
        ("prompt_cache_key", conversation.prompt_cache_key),
        ("prediction", conversation.prediction if given(conversation.prediction) else None),
    ):
        if value is not None:
            lost.hint(name)
    if conversation.previous_response_id is not None:
        lost.meaning("previous_response_id")


def _extra(extra: Extra, body: Object, lost: Losses) -> None:
    if extra.format != FAMILY:
        lost.weigh(extra.name, extra.weight)
        return
    head, _, rest = extra.name.partition(".")
    if not rest:
        body[head] = extra.raw
        return
    if head == "tools":
        function, _, field = rest.rpartition(".")
        if not _declare(function, field, extra.raw, body):
            lost.hint(extra.name)
        return
    if head not in _NESTED:
        # A field beside one part: the parts may stand elsewhere by now.
        lost.hint(re_numbered(extra.name))
        return
    *above, name = extra.name.split(".")
    place = body
    for step in above:
        inner = place.setdefault(step, {})
        if not isinstance(inner, dict):
            lost.hint(extra.name)
            return
        place = inner
    place[name] = extra.raw


def re_numbered(path: str) -> str:
    """``contents.3.parts.0.partMetadata`` as ``contents.parts.partMetadata``, so that it is named once."""
    return ".".join(step for step in path.split(".") if not step.isdecimal())


def _declare(function: str, field: str, raw: Raw, body: Object) -> bool:
    tools = body.get("tools")
    if not isinstance(tools, list) or not tools or not isinstance(tools[0], dict):
        return False
    for declared in tools[0].get("functionDeclarations", ()):
        if declared["name"] == function:
            declared[field] = raw
            return True
    return False
