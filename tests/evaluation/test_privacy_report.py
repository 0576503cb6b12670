"""What a report says of privacy: in a word on the terminal, and in a table of the page."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from fake_run import Run, report_of

from fedstill.evaluation import wording
from fedstill.evaluation.report import render_html, terminal_table
from fedstill.evaluation.schema import PrivacyReport, ReleaseReport

PAID = PrivacyReport(
    mechanism="dp_sgd",
    noise="seed",
    unit="day",
    epsilon=1.96,
    delta=1e-5,
    budget_epsilon=2.0,
    protected=True,
    released=[
        ReleaseReport(what="a release model of 365 days", count=1, epsilon=1.96),
        ReleaseReport(what="labels", count=3, epsilon=0.0),
    ],
)
OPEN = msgspec.structs.replace(PAID, mechanism="none", noise="none", epsilon=None, protected=False)
NOTHING = msgspec.structs.replace(PAID, mechanism="silent", epsilon=0.0)


@pytest.mark.parametrize(
    ("told", "word"), [(PAID, "ε 2 a day"), (OPEN, "none"), (NOTHING, "nothing told"), (None, wording.NOTHING)]
)
def test_privacy_is_said_in_a_word(told: PrivacyReport | None, word: str) -> None:
    assert wording.privacy(told) == word


def test_page_and_terminal_show_what_was_told(run: Run) -> None:
    first, *others = run.outcomes
    report = report_of([replace(first, privacy=PAID), *others], run.rounds, run.outputs)
    page, table = render_html(report), terminal_table(report)
    assert "What was told, and what that tells at most" in page
    assert "a release model of 365 days; labels (3 times)" in page
    assert "ε 2 a day" in page
    assert "ε 2 a day" in table
    assert report.participants[0].privacy == PAID
    assert "What was told" not in render_html(run.report)
