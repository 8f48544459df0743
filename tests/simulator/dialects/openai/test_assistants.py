"""Assistants, threads and runs, as much of them as passes through a gateway."""

import warnings

import pytest

openai = pytest.importorskip("openai")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_a_run(sdk, checked, last_line):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        beta = sdk.beta
        assistant = checked(beta.assistants.create(model="gpt-4o+tokens=5", instructions="Be brief"))
        thread = checked(beta.threads.create(messages=[{"role": "user", "content": "Hello"}]))
        run = checked(beta.threads.runs.create(thread.id, assistant_id=assistant.id))
        assert (run.status, run.usage.prompt_tokens, run.usage.completion_tokens) == (
            "completed",
            3 + 2 + 5,
            5,
        )
        line = last_line()
        assert (line.endpoint, line.model, line.completion_tokens) == ("threads.runs", "gpt-4o", 5)
        said = [checked(one) for one in beta.threads.messages.list(thread.id)]
        assert [one.role for one in said] == ["assistant", "user"]
        assert len(said[0].content[0].text.value) == 20
        beta.threads.messages.create(thread.id, role="user", content="More")
        with beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
            kinds = [event.event for event in stream]
        assert kinds[0] == "thread.run.created"
        assert kinds.count("thread.message.delta") == 5
        assert "thread.run.completed" in kinds
        assert checked(beta.threads.runs.retrieve(run.id, thread_id=thread.id)).id == run.id
        assert beta.assistants.update(assistant.id, name="x").name == "x"
        assert assistant.id in [one.id for one in beta.assistants.list()]
        assert beta.assistants.delete(assistant.id).deleted
        assert beta.threads.delete(thread.id).deleted
        with pytest.raises(openai.NotFoundError):
            beta.threads.runs.create(thread.id, assistant_id=assistant.id)


async def test_a_thread_and_a_run_at_once(ask, simulator):
    assistant = (await ask({"model": "m"}, path="/v1/assistants")).json()
    body = {"assistant_id": assistant["id"], "thread": {"messages": [{"role": "user", "content": "Hello"}]}}
    run = (await ask(body, path="/v1/threads/runs")).json()
    assert run["usage"]["completion_tokens"] == 32
    messages = (await ask(path=f"/v1/threads/{run['thread_id']}/messages")).json()["data"]
    assert len(messages) == 2
    assert (await ask({"thread": {}}, path="/v1/threads/runs")).status == 400
    reply = await ask({**body, "model": "x+no_such_knob"}, path=f"/v1/threads/{run['thread_id']}/runs")
    assert reply.json()["error"]["code"] == "unknown_knob"
