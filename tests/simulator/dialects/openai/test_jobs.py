"""Fine-tuning and videos: jobs that are done when their time has come."""

import pytest

openai = pytest.importorskip("openai")

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

LATER = {"x-mock-job": "60s"}


def test_fine_tuning(sdk, checked, last_line):
    ident = sdk.files.create(file=("t.jsonl", b"x" * 400), purpose="fine-tune").id
    fields = {"model": "gpt-4o-mini", "training_file": ident}
    slow = checked(sdk.fine_tuning.jobs.create(**fields, extra_headers=LATER))
    assert slow.status == "validating_files"
    assert sdk.fine_tuning.jobs.retrieve(slow.id).status == "running"
    assert sdk.fine_tuning.jobs.cancel(slow.id).status == "cancelled"
    made = sdk.fine_tuning.jobs.create(**fields)
    assert (last_line().endpoint, last_line().tokens["trained_tokens"]) == ("fine_tuning.jobs", 100)
    done = checked(sdk.fine_tuning.jobs.retrieve(made.id))
    assert (done.status, done.trained_tokens) == ("succeeded", 100)
    assert done.fine_tuned_model.startswith("ft:gpt-4o-mini:")
    assert "succeeded" in sdk.fine_tuning.jobs.list_events(made.id).data[0].message
    assert [one.id for one in sdk.fine_tuning.jobs.list()][:2] == [made.id, slow.id]
    with pytest.raises(openai.NotFoundError):
        sdk.fine_tuning.jobs.create(model="m", training_file="file-none")


def test_videos(sdk, checked, last_line):
    slow = checked(sdk.videos.create(model="sora-2", prompt="A cat", seconds="8", extra_headers=LATER))
    assert slow.status == "queued"
    assert (last_line().endpoint, last_line().model, last_line().tokens["video_seconds"]) == (
        "videos",
        "sora-2",
        8,
    )
    assert sdk.videos.retrieve(slow.id).progress == 50
    with pytest.raises(openai.NotFoundError, match="not ready"):
        sdk.videos.download_content(slow.id)
    done = checked(sdk.videos.create_and_poll(model="sora-2", prompt="A cat"))
    assert (done.status, done.progress) == ("completed", 100)
    assert sdk.videos.download_content(done.id).read()[4:8] == b"ftyp"
    assert sdk.videos.download_content(done.id, variant="thumbnail").read().startswith(b"\x89PNG")
    again = sdk.videos.remix(done.id, prompt="A dog")
    assert (again.remixed_from_video_id, last_line().model) == (done.id, "sora-2")
    assert sdk.videos.delete(slow.id).deleted
    assert slow.id not in [one.id for one in sdk.videos.list()]


def test_a_video_from_a_picture(sdk, last_line):
    sdk.videos.create(model="sora-2-pro", prompt="A cat", input_reference=("a.png", b"x", "image/png"))
    assert last_line().model == "sora-2-pro"
