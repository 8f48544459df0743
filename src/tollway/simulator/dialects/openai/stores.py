"""``/v1/vector_stores``: stores, the files in them, and a search over those whose content was kept."""

from __future__ import annotations

from tollway.simulator.answer import Answer, Endpoint, Route, Stamp
from tollway.simulator.dialects.openai.kept import gone, held, looks, missing, optional, page, param, shown
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import Body, Plain
from tollway.simulator.vectors import closeness

STORE = "vector_store"


def _counts(number: int) -> Body:
    return {"in_progress": 0, "completed": number, "failed": 0, "cancelled": 0, "total": number}


def _whole(store: Body) -> Body:
    """A store as it is told: its files are a secret of the shelf."""
    told = {name: value for name, value in store.items() if name != "files"}
    files = store["files"].values()
    return {
        **told,
        "file_counts": _counts(len(files)),
        "usage_bytes": sum(one["usage_bytes"] for one in files),
    }


def create(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    store: Body = {
        "id": "vs_" + stamp.serial,
        "object": STORE,
        "created_at": stamp.created,
        "last_active_at": stamp.created,
        "name": asked.body.get("name") or "",
        "status": "completed",
        "expires_after": asked.body.get("expires_after"),
        "expires_at": None,
        "metadata": asked.body.get("metadata") or {},
        "files": {},
    }
    for ident in asked.body.get("file_ids") or ():
        _add(store, ident, None, stamp)
    stamp.shelf.put(STORE, store["id"], store)
    return shown(_whole(store), stamp)


def get(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return shown(_whole(held(stamp.shelf, STORE, param(asked))), stamp)


def change(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    store = held(stamp.shelf, STORE, param(asked))
    for name in ("name", "metadata", "expires_after"):
        if name in asked.body:
            store[name] = asked.body[name]
    return shown(_whole(store), stamp)


def listed(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return page(asked, [_whole(store) for store in stamp.shelf.all(STORE)], stamp)


def delete(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    held(stamp.shelf, STORE, param(asked))
    stamp.shelf.take(STORE, param(asked))
    return gone(param(asked), "vector_store.deleted", stamp)


def _add(store: Body, ident: str, attributes: Body | None, stamp: Stamp) -> Body:
    file = held(stamp.shelf, "file", ident)
    told = {
        "id": ident,
        "object": "vector_store.file",
        "created_at": stamp.created,
        "vector_store_id": store["id"],
        "status": "completed",
        "usage_bytes": file.shown["bytes"],
        "last_error": None,
        "attributes": attributes or {},
    }
    store["files"][ident] = told
    return told


def add_file(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    store = held(stamp.shelf, STORE, param(asked))
    if not asked.body.get("file_id"):
        raise missing("file_id")
    return shown(_add(store, asked.body["file_id"], asked.body.get("attributes"), stamp), stamp)


def list_files(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    store = held(stamp.shelf, STORE, param(asked))
    return page(asked, list(reversed(store["files"].values())), stamp)


def _file(asked: Plain, stamp: Stamp) -> tuple[Body, Body]:
    store = held(stamp.shelf, STORE, param(asked))
    ident = param(asked, "file")
    if ident not in store["files"]:
        held(stamp.shelf, "vector_store.file", ident)
    return store, store["files"][ident]


def get_file(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return shown(_file(asked, stamp)[1], stamp)


def delete_file(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    store, file = _file(asked, stamp)
    del store["files"][file["id"]]
    return gone(file["id"], "vector_store.file.deleted", stamp)


def search(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    store = held(stamp.shelf, STORE, param(asked))
    given = asked.body.get("query")
    if not given:
        raise missing("query")
    text = given if isinstance(given, str) else " ".join(given)
    found = []
    for ident, told in store["files"].items():
        file = stamp.shelf.get("file", ident)
        if file is None or file.content is None:
            continue
        content = file.content.decode("utf-8", "replace")
        found.append(
            {
                "file_id": ident,
                "filename": file.shown["filename"],
                "score": closeness(text, content),
                "attributes": told["attributes"],
                "content": [{"type": "text", "text": content[:2000]}],
            }
        )
    found.sort(key=lambda one: -one["score"])
    cut = found[: asked.body.get("max_num_results") or 10]
    told = {
        "object": "vector_store.search_results.page",
        "search_query": [text],
        "data": cut,
        "has_more": False,
        "next_page": None,
    }
    made = shown(told, stamp)
    made.units = {"searches": 1}
    return made


ROUTES = (
    Route(b"POST", "/v1/vector_stores", looks(create, optional)),
    Route(b"GET", "/v1/vector_stores", looks(listed)),
    Route(b"GET", "/v1/vector_stores/{id}", looks(get)),
    Route(b"POST", "/v1/vector_stores/{id}", looks(change, optional)),
    Route(b"DELETE", "/v1/vector_stores/{id}", looks(delete)),
    Route(b"POST", "/v1/vector_stores/{id}/files", looks(add_file, optional)),
    Route(b"GET", "/v1/vector_stores/{id}/files", looks(list_files)),
    Route(b"GET", "/v1/vector_stores/{id}/files/{file}", looks(get_file)),
    Route(b"DELETE", "/v1/vector_stores/{id}/files/{file}", looks(delete_file)),
    Route(b"POST", "/v1/vector_stores/{id}/search", Endpoint("vector_stores.search", optional, search)),
)
