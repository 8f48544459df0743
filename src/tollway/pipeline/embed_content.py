"""Gemini's ``embedContent`` and ``batchEmbedContents`` as the embeddings endpoint any provider offers: the request is
turned into OpenAI's shape, walks the hallway, and its answer is turned back."""

from __future__ import annotations

from tollway.errors import UpstreamMalformed
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.serve import serve
from tollway.pipeline.services import Services
from tollway.wire.body import encode, parse, raw
from tollway.wire.codec import Unreadable


async def embed_content(request: ModelRequest, client: Client, app: Services) -> None:
    """Raises GatewayError."""
    from tollway.wire.formats.gemini_generate import read_embed

    body, batch, lost = read_embed(request.body)
    fields = parse(body)
    fields["model"] = raw(request.model or "")
    request.body = encode(fields)
    request.model = None
    request.endpoint = "embeddings"
    await serve(request, _Embeddings(client, batch, tuple(loss.field for loss in lost)), app)


class _Embeddings:
    """The client as the hallway sees it while its answer still has OpenAI's shape. Embeddings never stream."""

    trailers = False

    def __init__(self, client: Client, batch: bool, lost: tuple[str, ...]) -> None:
        self._client = client
        self._batch = batch
        self._lost = lost

    @property
    def begun(self) -> bool:
        return self._client.begun

    @property
    def congested(self) -> bool:
        return self._client.congested

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        if self._lost:
            headers += b"x-tollway-dropped: " + ",".join(self._lost).encode("ascii", "replace") + b"\r\n"
        from tollway.wire.formats.gemini_generate import write_embed

        try:
            written = write_embed(body, self._batch)
        except Unreadable as error:
            raise UpstreamMalformed(
                f"the provider's embeddings cannot be read: {error}", provider=""
            ) from error
        self._client.respond(status, headers, written)

    def start(self, status: int, headers: bytes, data: bytes) -> None:
        self._client.start(status, headers, data)

    def send(self, data: bytes) -> None:
        self._client.send(data)

    async def drain(self) -> None:
        await self._client.drain()

    def finish(self, data: bytes, trailers: bytes = b"") -> None:
        self._client.finish(data, trailers)

    def break_off(self) -> None:
        self._client.break_off()
