"""The output items of a response, and the numbered events that tell them one piece after another."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import Body
from tollway.simulator.speech import Speech, seal
from tollway.simulator.tokens import count, pieces
from tollway.simulator.track import Track, event


def output(said: Speech, body: Body, knobs: Knobs, serial: str) -> list[Body]:
    """The finished items: reasoning, a search, a message or calls."""
    made: list[Body] = []
    if said.reasoning:
        item: Body = {"id": "rs_" + serial, "type": "reasoning", "summary": []}
        if (body.get("reasoning") or {}).get("summary") and said.thinking:
            item["summary"] = [{"type": "summary_text", "text": said.thinking}]
        if "reasoning.encrypted_content" in (body.get("include") or ()):
            item["encrypted_content"] = seal("reasoning")
        made.append(item)
    if knobs.citations and said.text:
        action = {"type": "search", "query": "the old cat", "queries": ["the old cat"]}
        made.append(
            {"id": "ws_" + serial, "type": "web_search_call", "status": "completed", "action": action}
        )
    status = "incomplete" if said.finish in ("length", "content_filter") else "completed"
    if said.text is not None:
        part: Body = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        if said.refused:
            part = {"type": "refusal", "refusal": said.text}
        elif knobs.citations:
            part["annotations"] = [
                {
                    "type": "url_citation",
                    "url": "https://example.com/cat",
                    "title": "example.com",
                    "start_index": 0,
                    "end_index": len(said.text[:20]),
                }
            ]
        message = {"id": "msg_" + serial, "type": "message", "status": status, "role": "assistant"}
        made.append({**message, "content": [part]})
    for place, call in enumerate(said.calls):
        tail = f"{serial}{place:02x}"
        called = {"status": status, "call_id": "call_" + tail, "name": call.name}
        if call.tool.free:
            del called["status"]
            made.append({"id": "ctc_" + tail, "type": "custom_tool_call", **called, "input": call.arguments})
        else:
            made.append({"id": "fc_" + tail, "type": "function_call", **called, "arguments": call.arguments})
    return made


class Events:
    """A track whose events bear sequence numbers."""

    def __init__(self, track: Track, knobs: Knobs, padded: bool) -> None:
        self.track = track
        self._parts = knobs.events
        self._padded = padded
        self._number = 0

    def add(self, kind: str, tokens: int = 0, usage: bytes | None = None, **fields: Any) -> None:
        self.track.add(event({"type": kind, "sequence_number": self._number, **fields}, kind), tokens, usage)
        self._number += 1

    @property
    def number(self) -> int:
        return self._number

    def _deltas(self, kind: str, text: str, counted: bool = True, **fields: Any) -> None:
        for piece in pieces(text, self._parts):
            more = dict(fields)
            if self._padded:
                more["obfuscation"] = "x" * (crc32(piece.encode()) % 16 + 1)
            self.add(kind, count(piece) if counted else 0, delta=piece, **more)

    def item(self, place: int, item: Body) -> None:
        """Everything one output item tells, from added to done."""
        where = {"item_id": item["id"], "output_index": place}
        kind = item["type"]
        opened = {**item, **({"status": "in_progress"} if "status" in item else {})}
        # Of custom calls the status is not told, but their name costs tokens as well.
        names = count(item["name"]) if kind.endswith("tool_call") or kind == "function_call" else 0
        match kind:
            case "reasoning":
                self.add("response.output_item.added", output_index=place, item={**item, "summary": []})
                self._summary(item, where)
            case "web_search_call":
                self.add("response.output_item.added", output_index=place, item=opened)
                for step in ("in_progress", "searching", "completed"):
                    self.add(f"response.web_search_call.{step}", **where)
            case "message":
                self.add("response.output_item.added", output_index=place, item={**opened, "content": []})
                self._message(item, where)
            case "function_call":
                self.add(
                    "response.output_item.added", names, output_index=place, item={**opened, "arguments": ""}
                )
                self._deltas("response.function_call_arguments.delta", item["arguments"], **where)
                said = {"name": item["name"], "arguments": item["arguments"]}
                self.add("response.function_call_arguments.done", **where, **said)
            case _:
                self.add(
                    "response.output_item.added", names, output_index=place, item={**opened, "input": ""}
                )
                self._deltas("response.custom_tool_call_input.delta", item["input"], **where)
                self.add("response.custom_tool_call_input.done", **where, input=item["input"])
        self.add("response.output_item.done", output_index=place, item=item)

    def _summary(self, item: Body, where: Body) -> None:
        for place, part in enumerate(item["summary"]):
            here = {**where, "summary_index": place}
            empty = {**part, "text": ""}
            self.add("response.reasoning_summary_part.added", **here, part=empty)
            self._deltas("response.reasoning_summary_text.delta", part["text"], counted=False, **here)
            self.add("response.reasoning_summary_text.done", **here, text=part["text"])
            self.add("response.reasoning_summary_part.done", **here, part=part)

    def _message(self, item: Body, where: Body) -> None:
        for place, part in enumerate(item["content"]):
            here = {**where, "content_index": place}
            name = "refusal" if part["type"] == "refusal" else "text"
            empty = {**part, name: "", **({"annotations": []} if name == "text" else {})}
            self.add("response.content_part.added", **here, part=empty)
            kind = "response.refusal" if name == "refusal" else "response.output_text"
            probable: Body = {} if name == "refusal" else {"logprobs": []}
            self._deltas(f"{kind}.delta", part[name], **here, **probable)
            for number, cited in enumerate(part.get("annotations", ())):
                self.add(
                    "response.output_text.annotation.added", **here, annotation_index=number, annotation=cited
                )
            self.add(f"{kind}.done", **here, **{name: part[name]}, **probable)
            self.add("response.content_part.done", **here, part=part)


def error_event(knobs: Knobs, number: int) -> bytes:
    said: Body = {
        "type": "error",
        "sequence_number": number,
        "code": knobs.error_code or knobs.error_type or "server_error",
        "message": knobs.error_message or "Simulated error in the middle of a stream.",
        "param": None,
    }
    return event(said, "error")
