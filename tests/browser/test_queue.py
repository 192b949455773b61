"""What the page does when the queue turns a run away."""

from pathlib import Path

import pytest

SPEECH = Path(__file__).parents[1] / "oracle" / "set_a" / "audio" / "speech.wav"


@pytest.mark.parametrize(("status", "shown"), [(400, "You have 2 runs"), (503, "currently busy")])
def test_a_run_that_is_turned_away_is_told_and_can_be_tried_again(watched, status, shown):
    page = watched.page
    watched.upload(SPEECH)
    page.route(
        "**/queue/join*", lambda route: route.fulfill(status=status, json={"detail": "You have 2 runs waiting."})
    )
    page.click("#run")
    page.get_by_text(shown).first.wait_for()
    page.wait_for_selector("#run:not([disabled])")
    assert "Waiting" not in page.inner_text("#status")
    page.unroute("**/queue/join*")
    watched.run()
    watched.complaints.clear()  # the browser's own line about the refusal
