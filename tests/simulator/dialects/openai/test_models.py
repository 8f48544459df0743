async def test_the_list_and_single_models(ask):
    listed = (await ask(path="/v1/models")).json()
    assert listed["object"] == "list"
    assert {"id", "object", "created", "owned_by"} == set(listed["data"][0])
    names = [model["id"] for model in listed["data"]]
    assert "gpt-4o-mini" in names
    assert (await ask(path="/v1/models/gpt-4o-mini")).json()["id"] == "gpt-4o-mini"
    assert (await ask(path="/v1/models/org%2Fmodel")).json()["id"] == "org/model"


async def test_lists_are_not_billed(simulator, ask):
    await ask(path="/v1/models")
    assert simulator.bill.requests == 0


async def test_knobs_hold_for_lists_as_well(ask):
    assert (await ask(path="/v1/models", x_mock_status="503")).status == 503
    unknown = await ask(path="/v1/models/nope", x_mock_known_only="on")
    assert (unknown.status, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert (await ask(path="/v1/models/gpt-4o", x_mock_known_only="on")).status == 200
