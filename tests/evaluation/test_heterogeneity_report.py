"""The part of the report on how unlike the participants are: its numbers, its words and its picture."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fake_run import Run, outcome, report_of

from fedstill.energy.heterogeneity import LANDMARKS, Profile
from fedstill.errors import DataError
from fedstill.evaluation.heterogeneity import MAX_SHAPES, MAX_SQUARE, Picture, measured, picture, sentences
from fedstill.evaluation.report import read_report, render_html, write_report
from fedstill.evaluation.schema import HeterogeneityReport, Report
from fedstill.labels import Outputs, Space

POINT = Outputs(Space.QUANTILES, (0.5,))
EVIL = '<script>alert("1")</script>&'
FLAT = Profile(
    level_kw=100.0, swing=0.5, load_factor=0.5, daily=(1.0,) * 24, weekly=(1.0,) * 7, season=None, heating_per_k=None,
    cooling_per_k=None, noise=0.1, strength=0.8, history_days=42.0,
)  # fmt: skip


def at(swing: float, **more: object) -> Profile:
    return replace(FLAT, swing=swing, **more)  # type: ignore[arg-type]


def drawn(profiles: dict[str, Profile], groups: dict[str, int] | None = None) -> Picture:
    found = picture(measured(profiles), groups or {})
    assert found is not None
    return found


def report_with(profiles: dict[str, Profile | None]) -> Report:
    load = np.arange(1.0, 5.0)
    sites = [
        replace(outcome(name, load, dict.fromkeys(("floor", "local", "federated"), load[:, None] + 1)), profile=one)
        for name, one in profiles.items()
    ]
    return report_of(sites, [], POINT)


def test_index_and_factors_by_hand() -> None:
    report = report_with({"a": at(0.2), "b": at(0.5), "c": at(1.0)}).heterogeneity
    assert report is not None
    swing = (0.3 + 0.8 + 0.5) / 3
    assert report.factors["swing"] == pytest.approx(swing, rel=1e-4)
    assert report.factors["season"] is report.factors["weather"] is None
    assert report.index == pytest.approx(swing / 6, rel=1e-4)  # of six factors one differs
    assert report.participants["b"].level_kw == 100
    assert report.participants["b"].weekend_ratio == 1
    assert report.participants["b"].season is None


def test_there_is_no_such_part_without_profiles(run: Run, class_run: Run) -> None:
    assert run.report.heterogeneity is class_run.report.heterogeneity is None
    assert "How unlike" not in render_html(run.report)
    alone = report_with({"a": FLAT, "b": None})
    assert alone.heterogeneity is not None
    assert alone.heterogeneity.index is None
    assert "How unlike" not in render_html(alone)


def test_a_report_without_the_part_can_still_be_read(run: Run, tmp_path: Path) -> None:
    data = msgspec.json.encode(run.report)
    (tmp_path / "report.json").write_bytes(data.replace(b',"heterogeneity":null', b""))
    assert b"heterogeneity" not in (tmp_path / "report.json").read_bytes()
    assert read_report(tmp_path) == run.report


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    report = report_with({"a": at(1 / 3), "b": at(0.5, level_kw=None, daily=None), "c": at(1.0, level_kw=-2.0)})
    write_report(report, tmp_path)
    assert read_report(tmp_path) == report
    assert report.heterogeneity is not None
    assert report.heterogeneity.participants["a"].swing == 0.33333
    whole = (tmp_path / "report.json").read_text(encoding="utf-8")
    (tmp_path / "report.json").write_text(re.sub(r'"weekly": \[\s*1.0,', '"weekly": [', whole, count=1))
    with pytest.raises(DataError, match="profile of a is not whole"):
        read_report(tmp_path)


def test_the_sentence_compares_with_real_sets() -> None:
    def said(index: float) -> str:
        return sentences(HeterogeneityReport(index=index, factors={}, participants={}))[0]

    names = list(LANDMARKS)
    for name, value in LANDMARKS.items():
        assert f"{value:.2f}: these participants are about as unlike as {name}" in said(value)
    assert f"less unlike than {names[0]}" in said(0.01)
    assert f"more unlike than {names[-1]}" in said(0.9)


def test_it_names_what_differs_most_and_what_was_not_measured() -> None:
    text = " ".join(
        sentences(HeterogeneityReport(index=0.2, factors={"level": 0.1, "daily": 0.4, "noise": 0.3}, participants={}))
    )
    assert "most by shape of the day and noise, least by level" in text
    assert "swing, shape of the week, season, weather response, length of history" in text


def test_neighbours_in_the_picture_are_alike() -> None:
    swings = dict(zip("adbecf", (0.1, 0.9, 0.15, 0.95, 0.2, 1.0), strict=True))
    found = drawn({name: at(swing) for name, swing in swings.items()})
    assert {frozenset(found.names[:3]), frozenset(found.names[3:])} == {frozenset("abc"), frozenset("def")}
    cells = {(found.names[c.row], found.names[c.column]): c for c in found.cells}
    assert len(cells) == 6 * 5
    assert cells["a", "f"].strength == cells["f", "a"].strength == 1
    assert cells["a", "b"].strength == pytest.approx(0.05 / 0.9)
    assert cells["a", "f"].text == "a – f: 0.15"  # 0.9 over six factors
    assert found.largest == "0.15"


def test_groups_are_marked_where_there_are_several() -> None:
    profiles = {name: at(swing) for name, swing in zip("abc", (0.1, 0.2, 0.9), strict=True)}
    several = drawn(profiles, {"a": 1, "b": 1, "c": 2})
    assert dict(zip(several.names, several.groups, strict=True)) == {"a": 1, "b": 1, "c": 2}
    assert drawn(profiles, dict.fromkeys("abc", 1)).groups == [None] * 3
    missing = drawn(profiles, {"a": 1, "b": 2})
    assert dict(zip(missing.names, missing.groups, strict=True))["c"] is None


def test_bars_say_between_which_values_participants_lie() -> None:
    found = drawn({"a": at(0.2, level_kw=10.0), "b": at(0.5, level_kw=1000.0)})
    bars = {bar.name: bar for bar in found.bars}
    assert bars["level"].at == pytest.approx(100)
    assert bars["level"].values.replace("\N{NO-BREAK SPACE}", " ") == "mean load 10.0 kW to 1.00 MW"
    assert bars["length of history"].values == "42 days"
    assert bars["season"].text == "–"
    assert bars["season"].values == ""


def test_typical_days_share_a_scale_and_stay_inside() -> None:
    peak = (3.0,) + (21 / 23,) * 23
    found = drawn({"a": at(0.2), "b": at(0.5, daily=peak), "c": at(0.6, daily=None)})
    assert {day.name for day in found.days} == {"a", "b"}
    lines = {day.name: day.line.split() for day in found.days}
    assert lines["b"][0] == "0.0,0.0"  # three times the mean: the top
    assert lines["a"][-1] == "100.0,66.7"
    assert found.mean_day.split()[0] == "0.0,33.3"


@pytest.mark.parametrize("n", [2, 3, 60, 310])
def test_many_participants_are_thinned_out(n: int) -> None:
    rng = np.random.default_rng(n)
    found = drawn({f"site {k}": at(float(swing)) for k, swing in enumerate(rng.random(n))})
    shown = min(n, MAX_SQUARE)
    assert len(set(found.names)) == shown
    assert found.left_out == n - shown
    assert len(found.cells) == shown * (shown - 1)
    assert len(found.days) == min(n, MAX_SHAPES)


def test_identical_and_strange_participants_still_make_a_page() -> None:
    for profiles in (
        {"a": FLAT, "b": FLAT},
        {"a": FLAT, "b": replace(FLAT, level_kw=None, swing=None, daily=None, weekly=None, noise=None)},
        {"a": at(0.1, daily=(-1.0, 3.0) * 12), EVIL: FLAT, "c" * 300: at(1.0)},
    ):
        html = render_html(report_with(dict(profiles)))
        assert "How unlike the participants are" in html
        assert "<script" not in html
        assert "nan" not in re.findall(r"[a-z]+", re.sub(r"<style>.*?</style>", "", html, flags=re.S).lower())
        assert len(re.findall(r"<figure\b", html)) == len(re.findall(r"</figure>", html))


def test_the_page_shows_names_distances_and_that_it_is_a_simulation() -> None:
    html = render_html(report_with({"a": at(0.1), "b": at(0.9), "c": at(1.0)}))
    assert "a – c: 0.15" in html
    assert html.count('<figure class="shape">') == 3
    assert "Only a simulation can show this" in html
