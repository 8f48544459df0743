"""Field names in snake_case, which Google's JSON reader takes too, respelled in camelCase before anything is read.

Only names this format knows are respelled, at the places where it knows them: what users name themselves
(arguments, schemas, labels) is never touched.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec
from msgspec import Raw

from tollway.errors import InvalidJson

Shape: TypeAlias = "dict[str, Shape | None]"

_MEDIA: Shape = {"mimeType": None, "data": None, "displayName": None, "fileUri": None}
_PART: Shape = {
    "text": None,
    "thought": None,
    "thoughtSignature": None,
    "inlineData": _MEDIA,
    "fileData": _MEDIA,
    "functionCall": {"id": None, "name": None, "args": None},
    "functionResponse": {
        "id": None,
        "name": None,
        "response": None,
        "willContinue": None,
        "parts": {"inlineData": _MEDIA, "fileData": _MEDIA},
    },
    "executableCode": {"code": None, "language": None},
    "codeExecutionResult": {"outcome": None, "output": None},
    "toolCall": {"toolType": None},
    "toolResponse": {"toolType": None},
    "videoMetadata": {"startOffset": None, "endOffset": None},
    "mediaResolution": {"numTokens": None},
    "partMetadata": None,
    "mediaProcessing": None,
    "audioTranscription": None,
    "speechMetadata": None,
    "documentMetadata": None,
    "spreadsheetMetadata": None,
    "audioMetadata": None,
}
_CONTENT: Shape = {"role": None, "parts": _PART}
_TOOL: Shape = {
    "functionDeclarations": {
        "name": None,
        "description": None,
        "parameters": None,
        "parametersJsonSchema": None,
        "responseJsonSchema": None,
    },
    "googleSearch": {"timeRangeFilter": None, "excludeDomains": None, "searchTypes": None},
    "googleSearchRetrieval": {"dynamicRetrievalConfig": None},
    "enterpriseWebSearch": None,
    "codeExecution": None,
    "urlContext": None,
    "googleMaps": {"enableWidget": None},
    "fileSearch": {"fileSearchStoreNames": None, "topK": None, "metadataFilter": None},
    "computerUse": {"excludedPredefinedFunctions": None},
    "mcpServers": {"streamableHttpTransport": None},
}
REQUEST: Shape = {
    "contents": _CONTENT,
    "systemInstruction": _CONTENT,
    "tools": _TOOL,
    "toolConfig": {
        "functionCallingConfig": {"mode": None, "allowedFunctionNames": None},
        "retrievalConfig": {"latLng": None, "languageCode": None},
        "includeServerSideToolInvocations": None,
    },
    "generationConfig": {
        "stopSequences": None,
        "responseMimeType": None,
        "responseSchema": None,
        "responseJsonSchema": None,
        "responseModalities": None,
        "candidateCount": None,
        "maxOutputTokens": None,
        "topP": None,
        "topK": None,
        "presencePenalty": None,
        "frequencyPenalty": None,
        "responseLogprobs": None,
        "speechConfig": None,
        "thinkingConfig": {"includeThoughts": None, "thinkingBudget": None, "thinkingLevel": None},
        "imageConfig": {"aspectRatio": None, "imageSize": None},
        "mediaResolution": None,
        "enableEnhancedCivicAnswers": None,
        "audioTimestamp": None,
        "routingConfig": None,
        "modelSelectionConfig": None,
    },
    "safetySettings": None,
    "cachedContent": None,
    "serviceTier": None,
}
COUNT: Shape = {**REQUEST, "generateContentRequest": REQUEST}
EMBED: Shape = {
    "content": _CONTENT,
    "taskType": None,
    "outputDimensionality": None,
    "requests": {"content": _CONTENT, "taskType": None, "outputDimensionality": None},
}


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)


def _names(shape: Shape) -> set[str]:
    found: set[str] = set()
    for name, inner in shape.items():
        found.add(name)
        if inner:
            found |= _names(inner)
    return found


_ALL = _names(COUNT) | _names(EMBED)
_CAMEL = {_snake(name): name for name in _ALL if _snake(name) != name}
_SNAKE = frozenset(name.encode() for name in _CAMEL)
_KEY = re.compile(rb'"([a-z]++_[a-z_]++)"\s*+:')
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


def respelled(body: bytes, shape: Shape) -> bytes:
    """``body`` with its snake_case names in camelCase; the same object where there are none."""
    if b"_" not in body or not any(match[1] in _SNAKE for match in _KEY.finditer(body)):
        return body
    try:
        return _respell(body, shape)
    except (msgspec.DecodeError, RecursionError):
        # The reader that comes next says what is wrong with it.
        return body


def _respell(value: bytes, shape: Shape) -> bytes:
    first = value.lstrip()[:1]
    if first == b"[":
        return _encode([Raw(_respell(bytes(item), shape)) for item in _items(value)])
    if first != b"{":
        return value
    told: dict[str, Raw] = {}
    for name, raw in _fields(value).items():
        camel = _CAMEL.get(name, name)
        if camel not in shape:
            told[name] = raw
            continue
        if camel in told:
            raise InvalidJson(f"The request gives '{camel}' in two spellings. Give it once.")
        inner = shape[camel]
        told[camel] = raw if inner is None else Raw(_respell(bytes(raw), inner))
    return _encode(told)
