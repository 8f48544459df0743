"""Files and batches that this gateway keeps itself, for models whose provider has no batches of its own.

A batch file is read through when it comes: its lines say where it belongs. The lines are run elsewhere
(``jobs/run_batches.py``), on behalf of the key that made the batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from tollway.errors import BadRequest, NotFound, RequestTooLarge, StoreUnavailable
from tollway.model.artifact import LOCAL, Artifact
from tollway.model.operation import Operation
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.forward import Task, serve_task
from tollway.pipeline.grant import Grant
from tollway.pipeline.holdings import Holdings, only
from tollway.pipeline.ownership import Place, owner_of, references, shown
from tollway.pipeline.resolve import Call
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import ServedRoute, Target
from tollway.pipeline.upload import PIECE, HeldForm, Kept
from tollway.providers.forwarding import forwarded
from tollway.providers.request import UpstreamRequest
from tollway.wire import body as json_body
from tollway.wire.multipart import Begin, Content, Field, Scanner

MAX_FILE = 200 * 1024 * 1024
MAX_LINES = 50_000
MAX_LINE = 16 * 1024 * 1024
"""Bounds of a batch file, as the API documents them (the last is ours)."""

URLS = {
    "/v1/chat/completions": "chat.completions",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
    "/v1/moderations": "moderations",
    "/v1/messages": "messages",
    "/v1/rerank": "rerank",
    "/v1/images/generations": "images.generations",
}
"""What the lines of a batch may ask for."""

WINDOW = 24 * 3600.0
OWN = "tollway"
"""What ``?provider=`` says for a batch that this gateway is to run though a provider could."""

_encode = msgspec.json.Encoder().encode


class Line(Struct):
    """One line of a batch file."""

    custom_id: str
    url: str
    body: dict[str, Raw]
    method: str = "POST"


class State(Struct, kw_only=True):
    """What the runner needs of a batch: its files by id and how far it is told to be."""

    input: str
    output: str
    errors: str
    cancelled: bool = False


_line = msgspec.json.Decoder(Line).decode


def respond(client: Client, request: ModelRequest, value: object, status: int = 200) -> None:
    lines = b"content-type: application/json\r\nx-tollway-request-id: " + request.id.encode() + b"\r\n"
    client.respond(status, lines, _encode(value))


def file_path(folder: Path, id: str) -> Path:
    """Where a file of ours lies. Its id is one we made."""
    return folder / "files" / id


def new_id(prefix: str) -> str:
    return f"{prefix}{secrets.token_hex(16)}"


def file_object(id: str, size: int, name: str, purpose: str, created: float) -> dict[str, object]:
    return {
        "id": id,
        "object": "file",
        "bytes": size,
        "created_at": int(created),
        "filename": name,
        "purpose": purpose,
        "status": "processed",
        "expires_at": None,
        "status_details": None,
    }


async def attend(
    request: ModelRequest,
    place: Place,
    client: Client,
    app: Services,
    operation: Operation,
    holdings: Holdings,
) -> None:
    """Show, hand out, cancel or remove what is ours."""
    artifact = place.artifact
    assert artifact is not None
    if operation.kind == "file" and operation.does == "fetch":
        await _fetch(request, artifact, client, holdings)
    elif operation.kind == "file" and operation.does == "remove":
        await holdings.registry.forget(artifact.id)
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(os.unlink, file_path(holdings.folder, artifact.id))
        respond(client, request, {"id": artifact.id, "object": "file", "deleted": True})
    elif operation.does == "show":
        respond(client, request, Raw(artifact.shown))
    elif operation.kind == "batch" and operation.does == "change":
        await _cancel(request, artifact, client, app, holdings)
    else:
        raise BadRequest(f"That cannot be done with a {artifact.kind} that this gateway keeps itself.")


async def _fetch(request: ModelRequest, artifact: Artifact, client: Client, holdings: Holdings) -> None:
    try:
        file = await asyncio.to_thread(file_path(holdings.folder, artifact.id).open, "rb")
    except OSError:
        raise NotFound("The file's content is not here any more.", param="id") from None
    lines = (
        b"content-type: application/octet-stream\r\nx-tollway-request-id: " + request.id.encode() + b"\r\n"
    )
    with file:
        client.start(200, lines, b"")
        while data := await asyncio.to_thread(file.read, PIECE):
            client.send(data)
            if client.congested:
                await client.drain()
        client.finish(b"")


async def _cancel(
    request: ModelRequest, artifact: Artifact, client: Client, app: Services, holdings: Holdings
) -> None:
    told = msgspec.json.decode(artifact.shown)
    if artifact.settled:
        raise BadRequest(f"The batch is {told['status']} and cannot be cancelled any more.")
    now = int(app.wall_clock())
    told |= {"status": "cancelling", "cancelling_at": told["cancelling_at"] or now}
    state = msgspec.json.decode(artifact.state, type=State)
    state.cancelled = True
    await holdings.registry.keep([replace(artifact, shown=_encode(told), state=_encode(state))])
    if holdings.runner is not None:
        holdings.runner.wake()
    respond(client, request, told)


# Taking a batch file.


class _Survey(Struct):
    """What the lines of a file ask for: the routes by name, the paths, how many."""

    routes: dict[str, ServedRoute] = {}
    urls: set[str] = set()
    count: int = 0


async def take_batch_file(
    request: ModelRequest, form: HeldForm, grant: Grant, client: Client, app: Services, operation: Operation,
    holdings: Holdings, within: str | None = None,
) -> None:  # fmt: skip
    """Read a batch file through. Where all its lines are for one model whose provider has batches it goes there, under
    the provider's name of the model; else it stays here."""
    (holdings.folder / "files").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=holdings.folder, buffering=PIECE) as file:
        try:
            name = await _extract(form, file)
            survey = await _survey(file, grant, app, holdings, within)
            index = _native(request, survey, operation)
            if index is not None:
                route = only(next(iter(survey.routes.values())), index)
                await _send_on(request, form, file, name, route, grant, client, app, operation, holdings)
                return
            if holdings.runner is None:
                raise BadRequest(
                    "These lines need a batch that this gateway runs itself, which takes a database. Send lines for "
                    "one model whose provider has batches."
                )
            await _keep(request, form, file, name, grant, client, app, holdings)
        except OSError as error:
            raise StoreUnavailable(f"The file cannot be kept: {error.strerror or error}.") from error


async def _extract(form: HeldForm, file: IO[bytes]) -> str:
    """Write the form's only file to ``file``; returns what it is called."""
    scanner = Scanner(form.mark)
    name: str | None = None
    inside = False
    size = 0

    async def take(raw: bytes) -> None:
        nonlocal name, inside, size
        for piece in scanner.feed(raw):
            if isinstance(piece, Begin):
                inside = piece.part.filename is not None
                if inside:
                    if name is not None:
                        raise BadRequest("Send one file.", param="file")
                    name = piece.part.filename or "batch.jsonl"
            elif isinstance(piece, Content) and inside:
                size += len(piece.raw)
                if size > MAX_FILE:
                    raise RequestTooLarge(f"A batch file may hold {MAX_FILE} bytes.")
                file.write(piece.raw)

    for item in form.replay():
        await take(item.value.encode() if isinstance(item, Field) else item)
        await asyncio.sleep(0)
    while not form.ended:
        for item in await form.more():
            await take(item.value.encode() if isinstance(item, Field) else item)
    if name is None or not size:
        raise BadRequest("The request has no file, or an empty one.", param="file")
    file.flush()
    return name


async def _survey(
    file: IO[bytes], grant: Grant, app: Services, holdings: Holdings, within: str | None
) -> _Survey:
    """Every line read once. Raises BadRequest, ModelNotFound or ModelNotAllowed, the line named."""
    found = _Survey(routes={}, urls=set())
    seen: set[str] = set()
    file.seek(0)
    for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
        if number % 50 == 0:
            await asyncio.sleep(0)
        if not raw.strip():
            continue
        line = read_line(raw, number)
        if line.custom_id in seen:
            raise BadRequest(f"Line {number} repeats the custom_id {line.custom_id[:100]!r}.", param="file")
        seen.add(line.custom_id)
        found.count += 1
        if found.count > MAX_LINES:
            raise BadRequest(f"A batch may have {MAX_LINES} lines.", param="file")
        model = json_body.text(line.body, "model")
        if not model:
            raise BadRequest(f"Line {number} names no model.", param="file")
        found.urls.add(line.url)
        if model not in found.routes:
            found.routes[model] = grant.route(f"{within}/{model}" if within else model, app.snapshot)
        for id in references(raw):
            if id != line.custom_id:
                await holdings.registry.find(id, grant.principal)
    if not found.count:
        raise BadRequest("The batch file has no lines.", param="file")
    return found


def read_line(raw: bytes, number: int) -> Line:
    """Raises BadRequest."""
    if len(raw) > MAX_LINE:
        raise BadRequest(f"Line {number} of the batch file is longer than {MAX_LINE} bytes.", param="file")
    try:
        line = _line(raw)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(
            f'Line {number} of the batch file is not {{"custom_id": …, "method": "POST", "url": …, "body": {{…}}}}.',
            param="file",
        ) from None
    if line.method != "POST" or line.url not in URLS:
        asked = f"{line.method[:20]} {line.url[:100]!r}"
        raise BadRequest(f"Line {number} asks for {asked}, which no batch serves.", param="file")
    return line


def _native(request: ModelRequest, survey: _Survey, operation: Operation) -> int | None:
    """The target whose provider can take the whole file, if there is one."""
    if b"provider=" + OWN.encode() in request.query or len({r.name for r in survey.routes.values()}) != 1:
        return None
    route = next(iter(survey.routes.values()))
    for index, target in enumerate(route.targets):
        offers = target.provider.offers
        if offers("files") and offers("batches") and all(offers(URLS[url]) for url in survey.urls):
            return index
    return None


async def _send_on(
    request: ModelRequest, form: HeldForm, file: IO[bytes], name: str, route: ServedRoute, grant: Grant,
    client: Client, app: Services, operation: Operation, holdings: Holdings,
) -> None:  # fmt: skip
    target = route.targets[0]
    with tempfile.TemporaryFile(dir=holdings.folder, buffering=PIECE) as renamed:
        await _rename(file, renamed, target)
        size = renamed.tell()
        before, behind = _form_around(form, name)
        call = Call(request, {}, grant, route, False, True, None, 1)
        sent: list[Kept] = []

        def write(target: Target) -> UpstreamRequest:
            sent.append(Kept(before, renamed, size, behind))
            return forwarded(
                target.provider, operation.offer, kind=form.content_type, content=sent[-1],
                clocks=target.deployment.clocks,
            )  # fmt: skip

        async def adopt(body: bytes) -> bytes:
            key = grant.key
            id = json_body.text(shown(body), "id") if shown(body) else None
            if id:
                made = Artifact(
                    id=id, kind="file", provider=target.provider.name, owner=owner_of(grant.principal),
                    team=key.team if key is not None else None, model=route.name,
                    deployment=target.deployment.id, purpose="batch", created=app.wall_clock(), shown=body,
                )  # fmt: skip
                await holdings.registry.keep([made])
            return holdings.registry.outward(body, target.provider.name, grant.principal)

        task = Task(
            call,
            operation,
            write,
            wish=None,
            claims=holdings.light(grant, app.snapshot),
            adopt=lambda _: adopt,
        )
        await serve_task(task, client, app)


async def _rename(file: IO[bytes], renamed: IO[bytes], target: Target) -> None:
    """The same lines under the provider's name of the model."""
    file.seek(0)
    for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
        if number % 50 == 0:
            await asyncio.sleep(0)
        if not raw.strip():
            continue
        fields = msgspec.json.decode(raw, type=dict[str, Raw])
        view = msgspec.json.decode(fields["body"], type=dict[str, Raw])
        view["model"] = target.model_raw
        if target.provider.has_quirks:
            view = target.provider.rewrite(view, URLS[json_body.text(fields, "url") or ""])
        fields["body"] = Raw(_encode(view))
        renamed.write(_encode(fields) + b"\n")
    renamed.flush()


def _form_around(form: HeldForm, name: str) -> tuple[bytes, bytes]:
    """What stands before and behind the file in the form that goes on."""
    mark = b"--" + form.mark
    before = b""
    for field, value in form.form.fields.items():
        line = b'Content-Disposition: form-data; name="%b"' % field.encode()
        before += b"\r\n".join((mark, line, b"", value.encode(), b""))
    plain = (
        "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in name) or "batch.jsonl"
    )
    before += (
        b'%b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n'
        b"Content-Type: application/jsonl\r\n\r\n" % (mark, plain.encode())
    )
    return before, b"\r\n" + mark + b"--\r\n"


async def _keep(
    request: ModelRequest, form: HeldForm, file: IO[bytes], name: str, grant: Grant, client: Client, app: Services,
    holdings: Holdings,
) -> None:  # fmt: skip
    id = new_id("file-")
    path = file_path(holdings.folder, id)
    size = await asyncio.to_thread(_copy, file, path)
    now = app.wall_clock()
    told = file_object(id, size, name, "batch", now)
    key = grant.key
    made = Artifact(
        id=id, kind="file", provider=LOCAL, owner=owner_of(grant.principal),
        team=key.team if key is not None else None, purpose="batch", created=now, shown=_encode(told),
    )  # fmt: skip
    await holdings.registry.keep([made])
    respond(client, request, told)


def _copy(file: IO[bytes], path: Path) -> int:
    file.seek(0)
    with path.open("wb") as out:
        while data := file.read(PIECE):
            out.write(data)
        os.fsync(out.fileno())
        return out.tell()


async def make_batch(
    request: ModelRequest, fields: json_body.Fields, places: list[Place], grant: Grant, client: Client,
    app: Services, holdings: Holdings,
) -> None:  # fmt: skip
    """A batch over a file of ours, for the runner to take up."""
    id = json_body.text(fields, "input_file_id")
    file = next((one.artifact for one in places if one.id == id and one.provider == LOCAL), None)
    if file is None or file.kind != "file" or file.purpose != "batch":
        raise BadRequest("'input_file_id' must name a file with the purpose batch.", param="input_file_id")
    url = json_body.text(fields, "endpoint")
    if url not in URLS:
        raise BadRequest(f"'endpoint' must be one of {', '.join(URLS)}.", param="endpoint")
    if holdings.runner is None:
        raise BadRequest("This gateway runs no batches: that takes a database.")
    window = json_body.text(fields, "completion_window") or "24h"
    metadata = fields.get("metadata")
    now = app.wall_clock()
    key = grant.key
    told = {
        "id": new_id("batch_"),
        "object": "batch",
        "endpoint": url,
        "errors": None,
        "input_file_id": file.id,
        "completion_window": window,
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": int(now),
        "in_progress_at": None,
        "expires_at": int(now + WINDOW),
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": metadata if metadata is not None and bytes(metadata)[:1] == b"{" else None,
    }
    made = Artifact(
        id=str(told["id"]), kind="batch", provider=LOCAL, owner=owner_of(grant.principal),
        team=key.team if key is not None else None, created=now, settled=False, shown=_encode(told),
        state=_encode(State(input=file.id, output=new_id("file-"), errors=new_id("file-"))),
    )  # fmt: skip
    await holdings.registry.keep([made])
    holdings.runner.wake()
    respond(client, request, told)
