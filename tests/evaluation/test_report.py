from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fake_run import Run, outcome, report_of

from fedstill.errors import ConfigError, DataError
from fedstill.evaluation.outcome import RoundRecord
from fedstill.evaluation.plots import axis, bytes_chart, group_numbers, loss_chart, panels
from fedstill.evaluation.report import read_report, render_html, terminal_table, write_report
from fedstill.evaluation.schema import Report, RoundReport
from fedstill.evaluation.wording import METRICS, PREDICTIONS, headline, metric_value, number, remarks, size
from fedstill.labels import Outputs, Space

POINT = Outputs(Space.QUANTILES, (0.5,))
EVIL = '<script>alert("1")</script>\x1b[31m&'
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "report.md"


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


class Reader(HTMLParser):
    """Collects tags and attributes, and fails where tags do not close in order."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str) -> list[tuple[str, dict[str, str | None]]]:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader.tags


def sites(*pairs: tuple[float, float], names: str = "abcdefgh", safe: float | None = None) -> Report:
    """Sites of 10 kW with daily errors that vary a little around (alone, after) kW; the floor is off by 5."""
    wiggle = 1 + 0.1 * (-1.0) ** np.arange(40)
    load = np.full(40, 10.0)
    found = []
    for name, (alone, after) in zip(names, pairs, strict=False):
        off = {"floor": 5.0, "local": alone, "federated": after} | ({} if safe is None else {"local_safe": safe})
        found.append(outcome(name, load, {key: (load + by * wiggle)[:, None] for key, by in off.items()}))
    return report_of(found, [], POINT)


def test_a_report_comes_back_as_it_was_written(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    write_report(run.report, folder)
    assert read_report(folder) == run.report
    assert (folder / "report.html").read_text(encoding="utf-8") == render_html(read_report(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    write_report(run.report, folder)  # over an older one


def test_a_failed_write_leaves_the_older_report(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(run.report, tmp_path)
    before = (tmp_path / "report.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_report(msgspec.structs.replace(run.report, seed=99), tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_folder_that_is_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(run.report, tmp_path / "taken")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda d: None, "no report"),
        (lambda d: d[: len(d) // 2], "damaged"),
        (lambda d: b"\xff\xfe" + d, "damaged"),
        (lambda d: b"[" * 100_000, "damaged"),
        (lambda d: b"{}", "damaged"),
        (lambda d: d.replace(b'"schema_version":1', b'"schema_version":2'), "newer fedstill"),
        (lambda d: d.replace(b'"seed":7', b'"seed":"7"'), "damaged"),
        (lambda d: d.replace(b'"zone":"Europe/Berlin"', b'"zone":"Mars/Olympus"', 1), "damaged"),
        (lambda d: d.replace(b'"zone":"Europe/Berlin"', b'"zone":"../../etc/passwd"', 1), "damaged"),
        (lambda d: re.sub(rb'"actual":\[[^,]*,', b'"actual":[', d, count=1), "damaged"),
        (lambda d: re.sub(rb'"time":\["[^"]*"', b'"time":["noon"', d, count=1), "damaged"),
        (lambda d: d.replace(b'"metrics":{"floor"', b'"metrics":{"flaw"', 1), "damaged"),
    ],
)
def test_what_is_no_report_is_refused_with_a_remedy(run: Run, tmp_path: Path, change, what: str) -> None:
    whole = msgspec.json.encode(run.report)
    damaged = change(whole)
    assert damaged != whole
    if damaged is not None:
        (tmp_path / "report.json").write_bytes(damaged)
    with pytest.raises(DataError, match=what) as caught:
        read_report(tmp_path)
    assert caught.value.where.endswith("report.json")
    assert caught.value.remedy


def test_keys_of_later_versions_are_ignored(run: Run, tmp_path: Path) -> None:
    data = msgspec.json.encode(run.report).replace(b'"seed":7', b'"seed":7,"mood":"good"')
    (tmp_path / "report.json").write_bytes(data)
    assert read_report(tmp_path) == run.report


@pytest.mark.parametrize("kind", ["run", "class_run"])
def test_the_page_is_whole_and_needs_nothing_else(kind: str, request: pytest.FixtureRequest) -> None:
    html = render_html(request.getfixturevalue(kind).report)
    tags = read(html)
    assert {"script", "link", "img", "iframe", "object", "embed"}.isdisjoint(tag for tag, _ in tags)
    names = {name for _, given in tags for name in given}
    assert {"src", "href", "xlink:href", "srcset"}.isdisjoint(names)
    assert not [name for name in names if name.startswith("on")]
    assert set(re.findall(r"https?://[^\s\"'<]*", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "url(" not in html
    assert "@import" not in html
    ids = [given["id"] for _, given in tags if "id" in given]
    assert len(ids) == len(set(ids))
    assert "nan" not in re.findall(r"[a-z]+", re.sub(r"<style>.*?</style>", "", html, flags=re.S).lower())
    assert sum(tag == "svg" for tag, _ in tags) >= 3


def test_the_page_shows_what_the_report_says(run: Run) -> None:
    html = plain(render_html(run.report))
    assert headline(run.report) in render_html(run.report)
    for p in run.report.participants:
        assert html.count(p.name) > 5
        assert plain(metric_value(p.metrics["federated"]["nmae"], "nmae")) in html
    assert "not picked by error" in html
    assert "no answer before the deadline" in html
    assert "two gaps of a day in March" in html
    assert "aggregate.kind" in html
    assert html.count('<details class="forecast" open>') == 3
    assert html.count('class="day"') == 12 * 8


def test_a_hostile_name_is_harmless(run: Run) -> None:
    loads = np.arange(1.0, 5.0)
    bad = replace(
        outcome(EVIL, loads, dict.fromkeys(("floor", "local", "federated", EVIL), loads[:, None] * 1.1)),
        learner=EVIL, kept=EVIL, why=EVIL, notes=(EVIL,), weights={EVIL: 1.0},
        time=np.datetime64("2024-01-01", "s") + np.arange(4) * np.timedelta64(1, "h"), block=np.zeros(4, int),
    )  # fmt: skip
    rounds = [RoundRecord(n, ((EVIL,),), (EVIL,), {EVIL: EVIL}, 1, 1, EVIL, {EVIL: 1.0 / n}) for n in (1, 2)]
    report = report_of([bad], rounds, POINT, settings={EVIL: EVIL}, environment={EVIL: [EVIL]}, task=EVIL)
    html = render_html(report)
    tags = read(html)
    assert "script" not in {tag for tag, _ in tags}
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 10
    assert "\x1b" not in terminal_table(report)
    assert "<script>" in terminal_table(report)  # in a terminal this is only text


def test_the_headline_says_what_happened() -> None:
    better = plain(headline(sites((4, 3), (4, 3.2), (4, 2.9))))
    assert better == (
        "Federation lowered the mean error from 40.0 % (alone) to 30.3 %; "
        "3 of 3 participants improved, none is worse by more than 2 %."
    )
    worse = plain(headline(sites((3, 4), (3, 4.2))))
    assert worse == (
        "Federation did not pay: it raised the mean error from 30.0 % (alone) to 41.0 %; "
        "0 of 2 participants improved, 2 are worse by more than 2 %."
    )
    same = plain(headline(sites((3, 3))))
    assert same.startswith("Federation did not pay: the mean error stayed at 30.0 %; 0 of 1 participant improved")
    mixed = sites((4, 1), (4, 4.2), (4, 4.1), (4, 4.3))
    assert "which could be chance; 1 of 4" in plain(headline(mixed))
    assert "3 are worse" in plain(headline(mixed))
    against = sites((4, 4.4), (4, 3.7), (4, 4.3))
    assert plain(headline(against)).startswith("Federation did not pay: the mean error went up from 40.0 %")


def test_the_remarks_name_the_fair_rival_and_a_better_floor() -> None:
    found = plain(" ".join(remarks(sites((8, 6), (8, 6.1), safe=5.5))))
    assert "Against working alone that is" in found
    assert "The same careful choice without the federation reaches 55.0 %; the federation itself costs" in found
    assert "The floor, which learns nothing, does better: 50.0 %." in found
    good = plain(" ".join(remarks(sites((4, 3), (4, 3.2), safe=4))))
    assert "the federation itself saves 22.5 %" in good
    assert "floor" not in good


def test_a_report_on_nothing_but_zeros_still_makes_a_page() -> None:
    dead = outcome("dead", np.zeros(3), {k: np.zeros((3, 1)) for k in ("floor", "local", "federated")})
    report = report_of([dead], [], POINT, settings={}, environment={})
    assert "cannot be said" in headline(report)
    read(render_html(report))
    assert "–" in terminal_table(report)


def test_one_wild_model_does_not_squeeze_the_picture() -> None:
    pairs = ((4.0, 3.0),) * 7 + ((4000.0, 3.0),)
    html = render_html(sites(*pairs))
    assert html.count('class="key local beyond"') == 2  # the wild site, and the mean it ruins
    assert "40000.0" in html.replace("\N{NO-BREAK SPACE}", "").replace(",", "")


def test_the_terminal_table_has_a_line_for_each_and_the_mean(run: Run) -> None:
    lines = terminal_table(run.report).splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == 1 + 12 + 1
    mean = [cell.strip() for cell in lines[-2].split("|")[1:-1]]
    assert mean[0] == "mean"
    expected = [f"{100 * (run.report.overall.mean[k]['nmae'] or 0):.1f}" for k in ("floor", "local", "federated")]
    assert mean[3:6] == expected


def test_charts_carry_no_style_script_or_comment(run: Run) -> None:
    for svg in (loss_chart(run.report.rounds), bytes_chart(run.report.rounds)):
        assert svg is not None
        assert svg.startswith("<svg")
        for word in ("<style", "<script", "<!--", " id=", "pygal.org", "Pygal"):
            assert word not in svg
    assert loss_chart(run.report.rounds[:1]) is None
    assert bytes_chart([]) is None


def test_groups_keep_their_number_while_they_stay_much_the_same() -> None:
    def record(*groups: str) -> RoundReport:
        return RoundReport(
            round=1, groups=[list(g) for g in groups], answered=[], refused={}, bytes_up=0, bytes_down=0,
            closed="complete", validation_loss={},
        )  # fmt: skip

    first, second, third = group_numbers([record("abc", "de"), record("de", "cba"), record("abcd", "e", "x")])
    assert first == second == {"a": 1, "b": 1, "c": 1, "d": 2, "e": 2}
    assert third == {"a": 1, "b": 1, "c": 1, "d": 1, "e": 2, "x": 3}


def test_panels_share_a_scale_and_stay_inside(run: Run) -> None:
    drawn = panels(run.report.samples["Dairy"])
    assert len(drawn) == 8
    assert all(panel.loads == drawn[0].loads for panel in drawn)
    for panel in drawn:
        numbers = [float(x) for line in (*panel.lines.values(), panel.band) for x in re.split("[ ,]", line)]
        assert 0 <= min(numbers) <= max(numbers) <= 100
        assert [tick.label for tick in panel.hours] == ["0", "6", "12", "18"]


def test_axes_have_round_ticks_at_their_places() -> None:
    assert [(t.at, t.label) for t in axis(0, 0.2, factor=100, unit=" %")] == [
        (0, "0 %"), (25, "5 %"), (50, "10 %"), (75, "15 %"), (100, "20 %"),
    ]  # fmt: skip
    assert [t.label for t in axis(-1.1, 0.9, count=2)] == ["−1", "0"]


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (number(1234567.0), "1 234 567"), (number(0.01234), "0.0123"), (number(0.0), "0.000"), (number(None), "–"),
        (number(-2.5), "−2.50"), (size(999), "999 B"), (size(1_500), "1.5 kB"), (size(999_999), "1 MB"),
        (metric_value(0.1044, "nmae"), "10.4 %"), (metric_value(-3.26, "nmbe"), "−3.3 %"),
        (metric_value(-0.001, "nmbe"), "0.0 %"), (metric_value(12.3456, "mae"), "12.3 kW"),
    ],
)  # fmt: skip
def test_numbers_read_well(said: str, value: str) -> None:
    assert plain(said) == value


def test_the_reference_page_names_every_key() -> None:
    named = set(re.findall(r"`([^`]+)`", PAGE.read_text(encoding="utf-8")))
    schema = msgspec.json.schema(Report)
    keys = {key for part in schema["$defs"].values() for key in part.get("properties", {})}
    assert len(keys) > 50
    assert sorted(keys - named) == []
    assert sorted((METRICS.keys() | PREDICTIONS.keys()) - named) == []


def test_every_metric_is_described(run: Run, class_run: Run) -> None:
    for report in (run.report, class_run.report):
        measured = {name for p in report.participants for of in p.metrics.values() for name in of}
        assert measured <= METRICS.keys()
