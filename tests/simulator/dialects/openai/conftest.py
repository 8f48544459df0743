"""The official client against one simulator, for every file that asks for it."""

import pytest

from tollway.simulator.running import start_in_thread


@pytest.fixture(scope="module")
def served():
    with start_in_thread() as made:
        yield made


@pytest.fixture(scope="module")
def sdk(served):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=served.url, api_key="sk-any", max_retries=0) as made:
        yield made


@pytest.fixture
def last_line(served):
    """The newest line of the bill."""
    return lambda: served.simulator.bill.entries()[-1]


@pytest.fixture(scope="session")
def checked():
    """The SDK builds its models without validation; this does validate them."""
    pydantic = pytest.importorskip("pydantic")

    def check(value):
        # By alias: some of the vendor's names are no names in Python.
        pydantic.TypeAdapter(type(value)).validate_python(value.model_dump(by_alias=True))
        return value

    return check
