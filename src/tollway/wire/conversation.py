"""The hub: one request, one answer and one stream as values that no dialect owns.

Every format is read into these and written from them, so that n formats need n codecs. Where two formats are the
same the bytes are relayed and nothing here is touched. What only one format knows is carried as ``Opaque`` or in
``extra`` with that format's name, so that a writer can pass it on to its own kind and name it as lost to others.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Raw, Struct

from tollway.model.usage import Usage

Role: TypeAlias = Literal["system", "developer", "user", "assistant"]
Finish: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "error"]
"""Why an answer ended. ``pause``: the provider wants to be called again with the turn so far; a stop sequence is
``stop`` with ``Choice.stop_sequence`` set."""

Weight: TypeAlias = Literal["aside", "hint", "meaning"]
"""What leaving a field out does to the answer: nothing that was asked for, nothing that is its meaning, or that."""


class Cache(Struct, frozen=True):
    """A cache breakpoint behind a block or tool: ``ttl`` is ``5m`` or ``1h``."""

    ttl: Literal["5m", "1h"] = "5m"


class Source(Struct, frozen=True, kw_only=True):
    """Where an attachment's bytes are: ``url``, ``data`` (base64 without line breaks) or ``file`` (a provider's file
    id). ``media_type`` such as ``image/png``, None where nobody said."""

    kind: Literal["url", "data", "file"]
    value: str
    media_type: str | None = None


class Citation(Struct, frozen=True, kw_only=True):
    """What a piece of text rests on. ``start``/``end`` are character positions in the block that cites; ``cited`` is
    the quoted source text; ``raw`` the annotation as ``format`` wrote it, for writers of the same format."""

    url: str | None = None
    title: str | None = None
    cited: str | None = None
    file_id: str | None = None
    start: int | None = None
    end: int | None = None
    format: str = ""
    raw: Raw = Raw()


# ------------------------------------------------------------------ blocks


class Text(Struct, frozen=True, kw_only=True, tag="text"):
    text: str = ""
    citations: tuple[Citation, ...] = ()
    cache: Cache | None = None
    signature: str | None = None
    """Gemini puts a thought signature on any kind of part."""


class Image(Struct, frozen=True, kw_only=True, tag="image"):
    source: Source
    detail: str | None = None
    cache: Cache | None = None
    signature: str | None = None
    """Gemini's thought signature on an image it made."""


class Audio(Struct, frozen=True, kw_only=True, tag="audio"):
    """``source.media_type`` says the encoding (``audio/wav``, ``audio/mpeg``); ``id`` and ``transcript`` where a model
    spoke it."""

    source: Source
    id: str | None = None
    transcript: str | None = None
    cache: Cache | None = None


class Video(Struct, frozen=True, kw_only=True, tag="video"):
    """``metadata`` is Gemini's ``videoMetadata`` object: start and end offset, frames per second."""

    source: Source
    cache: Cache | None = None
    metadata: Raw = Raw()


class Document(Struct, frozen=True, kw_only=True, tag="document"):
    """A PDF or text file. A plain-text document has ``text`` and no ``source``."""

    source: Source | None = None
    text: str | None = None
    title: str | None = None
    context: str | None = None
    citations: bool = False
    cache: Cache | None = None


class ToolCall(Struct, frozen=True, kw_only=True, tag="tool_call"):
    """``arguments`` is JSON text as the model wrote it (``"{}"`` when it wrote none), or free text where ``custom``.

    ``id`` is never empty: a reader of a format without ids makes stable ones. ``signature`` is Gemini's thought
    signature.
    """

    id: str
    name: str
    arguments: str = "{}"
    custom: bool = False
    signature: str | None = None
    cache: Cache | None = None


class ToolResult(Struct, frozen=True, kw_only=True, tag="tool_result"):
    """What a tool gave back; stands in a user turn. ``name`` where the format (or the call before it) says it."""

    call_id: str
    name: str | None = None
    content: tuple[Text | Image | Document | Opaque, ...] = ()
    error: bool = False
    custom: bool = False
    cache: Cache | None = None


class Thinking(Struct, frozen=True, kw_only=True, tag="thinking"):
    """Reasoning. ``signature`` is opaque proof for the provider named by ``format`` and worthless to any other;
    ``redacted`` opaque reasoning in place of text; ``summary`` says that the text is a summary; ``id`` an item id of
    the Responses API."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    summary: bool = False
    id: str | None = None
    format: str = ""


class Refusal(Struct, frozen=True, kw_only=True, tag="refusal"):
    text: str = ""


class Opaque(Struct, frozen=True, kw_only=True, tag="opaque"):
    """A block only ``format`` knows (a server tool's call or result, an item type that is newer than we are):
    ``raw`` is its JSON, ``kind`` its type there."""

    format: str
    kind: str
    raw: Raw
    cache: Cache | None = None


Block: TypeAlias = (
    Text | Image | Audio | Video | Document | ToolCall | ToolResult | Thinking | Refusal | Opaque
)


class Message(Struct, frozen=True, kw_only=True):
    """One turn. Tool results stand in user turns (a ``tool`` message of OpenAI becomes one); consecutive turns of a
    role stay as they were sent, writers merge them where their format wants alternation."""

    role: Role
    blocks: tuple[Block, ...] = ()
    name: str | None = None
    id: str | None = None


# ------------------------------------------------------------------ what may be done, and how to answer


class Tool(Struct, frozen=True, kw_only=True):
    """A tool of the caller's. ``schema`` is the JSON Schema of its arguments; empty for a ``custom`` tool, which takes
    free text (``grammar``: its format object, as OpenAI writes it)."""

    name: str
    description: str | None = None
    schema: Raw = Raw(b'{"type":"object","properties":{}}')
    strict: bool | None = None
    custom: bool = False
    grammar: Raw = Raw()
    cache: Cache | None = None


class ServerTool(Struct, frozen=True, kw_only=True):
    """A tool the provider runs (or an MCP server it calls). ``kind`` is one of ours where several formats have it:
    ``web_search``, ``web_fetch``, ``code_execution``, ``file_search``, ``image_generation``, ``computer``, ``mcp``,
    ``bash``, ``text_editor``, ``url_context``, ``maps``, else the format's own name; ``raw`` is the definition as
    ``format`` wrote it."""

    kind: str
    name: str | None = None
    format: str
    raw: Raw


class ToolChoice(Struct, frozen=True, kw_only=True):
    """``named`` wants exactly ``name``; ``allowed`` limits the others to these names."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None
    allowed: tuple[str, ...] = ()


class ResponseFormat(Struct, frozen=True, kw_only=True):
    """``json_object``: any JSON object; ``json_schema``: one that fits ``schema``."""

    kind: Literal["json_object", "json_schema"]
    name: str = "response"
    description: str | None = None
    schema: Raw = Raw()
    strict: bool | None = None


class Reasoning(Struct, frozen=True, kw_only=True):
    """How much to think. ``enabled`` False forbids it; ``effort`` is ``none minimal low medium high xhigh max``;
    ``budget`` is tokens (-1: as many as the model wants); ``adaptive``: the model decides how deep; ``show``: the
    thoughts (or summaries) are wanted in the answer; ``summary`` how long a summary."""

    enabled: bool | None = None
    effort: str | None = None
    budget: int | None = None
    adaptive: bool = False
    show: bool | None = None
    summary: str | None = None


class Extra(Struct, frozen=True, kw_only=True):
    """A request field the hub has no name for: written again by codecs of the same format family, lost to others, with
    ``weight``."""

    format: str
    name: str
    raw: Raw
    weight: Weight = "hint"


class Conversation(Struct, frozen=True, kw_only=True):
    """One request. Optional numbers are None when the client did not say; ``model`` is the name as asked for.

    ``stop`` are stop sequences, ``user`` an end user's id, ``store`` whether the provider may keep the answer,
    ``include_usage`` whether a stream's usage was asked for, ``modalities`` what to answer with (``text``, ``audio``,
    ``image``).
    """

    model: str
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool | ServerTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    n: int = 1
    modalities: tuple[str, ...] = ()
    audio: Raw = Raw()
    """OpenAI's ``audio`` object (voice and format of the answer)."""
    prediction: Raw = Raw()
    verbosity: str | None = None
    service_tier: str | None = None
    metadata: dict[str, str] = {}
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    stream: bool = False
    include_usage: bool = False
    functions: bool = False
    """The client offered its tools as OpenAI's older ``functions`` and expects a ``function_call`` back."""
    format: str = ""
    """The format the client spoke: a writer of the same one may write back what it would not force upon others."""
    extra: tuple[Extra, ...] = ()


# ------------------------------------------------------------------ the answer


class Choice(Struct, frozen=True, kw_only=True):
    """``logprobs`` is OpenAI's object (``{"content": […], "refusal": …}``)."""

    blocks: tuple[Block, ...] = ()
    finish: Finish = "stop"
    stop_sequence: str | None = None
    logprobs: Raw = Raw()


class Completion(Struct, frozen=True, kw_only=True):
    """A whole answer. ``created`` is Unix seconds (0: not said); ``usage`` None when not reported; ``raw_usage`` is the
    provider's object; ``cost`` the cost in USD as a decimal string, for formats that have a place for it."""

    id: str = ""
    model: str = ""
    created: int = 0
    choices: tuple[Choice, ...] = ()
    usage: Usage | None = None
    raw_usage: Raw = Raw()
    service_tier: str | None = None
    cost: str | None = None


# ------------------------------------------------------------------ the stream


class Start(Struct, frozen=True, kw_only=True):
    """First event of a stream, exactly once. ``usage`` where the format reports the prompt's at the start."""

    id: str = ""
    model: str = ""
    created: int = 0
    usage: Usage | None = None
    service_tier: str | None = None


class BlockStart(Struct, frozen=True, kw_only=True):
    """A block opens. ``index`` counts blocks of a ``choice`` from 0 and is never used again there; ``block`` holds what
    is known already (a tool call's id and name, with ``arguments=""``; an ``Opaque``, ``Image`` or ``Audio`` is whole).
    Blocks of one choice may be open side by side: parallel tool calls of OpenAI interleave."""

    index: int
    block: Block
    choice: int = 0


class BlockDelta(Struct, frozen=True, kw_only=True):
    """More of an open block: exactly one field is set. ``text`` goes to Text, Thinking, Refusal; ``arguments`` to
    ToolCall; ``signature`` and ``redacted`` to Thinking (``signature`` to ToolCall and Text too); ``citation`` to Text;
    ``audio`` (base64) and ``text`` (transcript) to Audio."""

    index: int
    text: str | None = None
    arguments: str | None = None
    signature: str | None = None
    redacted: str | None = None
    citation: Citation | None = None
    audio: str | None = None
    choice: int = 0
    logprobs: Raw = Raw()


class BlockStop(Struct, frozen=True, kw_only=True):
    index: int
    choice: int = 0


class Finished(Struct, frozen=True, kw_only=True):
    """A choice is over: all its blocks are closed."""

    finish: Finish
    stop_sequence: str | None = None
    choice: int = 0


class Metered(Struct, frozen=True, kw_only=True):
    """The usage of the whole answer; the last one counts. ``cost`` as in ``Completion``."""

    usage: Usage
    raw: Raw = Raw()
    service_tier: str | None = None
    cost: str | None = None


class Failed(Struct, frozen=True, kw_only=True):
    """The provider broke the stream off: an error event. ``status`` is what it would have been as an HTTP status."""

    message: str
    status: int = 502
    kind: str = "api_error"
    code: str | None = None


class Ping(Struct, frozen=True):
    """A sign of life."""


class End(Struct, frozen=True):
    """Last event, exactly once, unless ``Failed`` came."""


StreamEvent: TypeAlias = (
    Start | BlockStart | BlockDelta | BlockStop | Finished | Metered | Failed | Ping | End
)


class Loss(Struct, frozen=True):
    """What a writer could not carry: ``field`` as the client's dialect or the hub names it (``logprobs``, ``tools``,
    ``messages.image``), ``weight`` ``meaning`` where leaving it out changes what is asked, ``aside`` where nobody
    minds."""

    field: str
    weight: Weight = "hint"


class Written(Struct, frozen=True, kw_only=True):
    """A request in a provider's format, and what it does not say."""

    body: bytes
    lost: tuple[Loss, ...] = ()
