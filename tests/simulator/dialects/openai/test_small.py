"""Moderations, rerank, search and document recognition."""

import pytest

openai = pytest.importorskip("openai")


def test_moderations(sdk, checked, last_line):
    said = checked(sdk.moderations.create(input=["I will kill you", "Hello"]))
    assert [one.flagged for one in said.results] == [True, False]
    assert said.results[0].categories.violence
    assert last_line().endpoint == "moderations"
    parts = [{"type": "text", "text": "Hello"}]
    assert sdk.moderations.create(model="omni-moderation-latest+refusal", input=parts).results[0].flagged


async def test_rerank(ask, simulator):
    documents = ["the sea", {"text": "a red fox"}, "fox"]
    body = {"model": "rerank", "query": "red fox", "documents": documents, "top_n": 2}
    said = (await ask(body, path="/v1/rerank")).json()
    assert [one["index"] for one in said["results"]] == [1, 2]
    assert said["results"][0]["document"] == {"text": "a red fox"}
    assert said["usage"]["total_tokens"] == 2 + 2 + 3 + 1
    line = simulator.bill.entries()[-1]
    assert (line.endpoint, line.prompt_tokens, line.tokens["searches"]) == ("rerank", 8, 1)
    assert (await ask({"model": "m", "query": "x"}, path="/v1/rerank")).status == 400


async def test_search(ask, simulator):
    said = (await ask({"query": ["cats", "dogs"], "max_results": 2}, path="/v1/search")).json()
    assert len(said["results"]) == 4
    assert set(said["results"][0]) == {"title", "url", "snippet", "date", "last_updated"}
    assert simulator.bill.entries()[-1].tokens["searches"] == 2


async def test_ocr(ask, simulator):
    document = {"type": "document_url", "document_url": "https://example.com/a.pdf"}
    body = {"model": "mistral-ocr-latest+text=Hi", "document": document, "pages": [0, 3]}
    said = (await ask(body, path="/v1/ocr")).json()
    assert [(page["index"], page["markdown"]) for page in said["pages"]] == [(0, "Hi"), (3, "Hi")]
    assert said["usage_info"]["pages_processed"] == 2
    line = simulator.bill.entries()[-1]
    assert (line.model, line.tokens["pages"]) == ("mistral-ocr-latest", 2)
    assert (await ask({**body, "document": {"type": "x"}}, path="/v1/ocr")).status == 400


async def test_a_shape_that_nobody_documents(ask):
    reply = await ask({"model": "m", "query": 1, "documents": 7}, path="/v1/rerank")
    assert reply.status == 400
    assert "documented shape" in reply.json()["error"]["message"]
