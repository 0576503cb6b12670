"""The documentation is true: links lead somewhere, every key and option is named, and marked blocks run.

Marks stand in a comment above a block:

    <!-- runs -->          Python is executed, `fedstill ...` lines of a shell block end with 0
    <!-- checks -->        the same with `check` in place of `run`, which would take long
    <!-- fails -->         the command ends with 2, as a user's mistake does
    <!-- file: NAME -->    the block is written to that file
    <!-- edit: NAME: LINE -->  the block replaces that line of the file
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import pytest

import fedstill
from fedstill import config, plugins
from fedstill.cli.main import cli, main
from fedstill.tasks.classification import Classification
from fedstill.tasks.forecast import Forecast

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")],
)
PATHS = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]*?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and what the comment above it says."""

    mark: str
    kind: str
    text: str


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(path: str) -> list[Block]:
    return [Block(found["mark"] or "", found["kind"], found["text"]) for found in BLOCK.finditer(text_of(path))]


def prose(path: str) -> str:
    """A page without its blocks."""
    return BLOCK.sub("", text_of(path))


def anchors(path: Path) -> set[str]:
    """Anchors of headings, by GitHub's rule: lower case, no punctuation, dashes for spaces."""
    titles = re.findall(r"^#+ (.*)$", prose(str(path.relative_to(ROOT))), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").strip().lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def section(path: str, title: str) -> str:
    """What stands below a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(title)}$\n(.*?)(?=^#+ |\Z)", prose(path), re.MULTILINE | re.DOTALL)
    assert found, f"{path} has no heading '{title}'"
    return found[1]


def table(text: str) -> dict[str, str]:
    """First column (without code marks) to second, of all table rows; a first cell may hold several names."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {name: row[1] for row in rows for name in re.findall(r"`([^`]+)`", row[0])}


# --- links and names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_links_lead_somewhere(path):
    for target in LINK.findall(prose(path)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        page = (ROOT / path).parent / name if name else ROOT / path
        assert page.exists(), f"{path}: {target}"
        if anchor:
            assert anchor in anchors(page.resolve()), f"{path}: {target}"


def test_every_page_is_reached_from_the_index():
    index = (ROOT / "docs" / "index.md").parent
    linked = {(index / target.partition("#")[0]).resolve() for target in LINK.findall(text_of("docs/index.md"))}
    expected = {page for page in PAGES if page.name not in ("index.md", "README.zh-CN.md")}
    assert expected <= linked


@pytest.mark.parametrize("path", PATHS)
def test_no_page_names_a_place_of_one_machine(path):
    assert not re.findall(r"(?:^|[\s`'\"(])/(?:home|root|tmp|work|Users|mnt)\b", text_of(path))


def test_the_chinese_readme_has_the_same_commands_and_figures():
    english, chinese = "README.md", "README.zh-CN.md"
    assert [(b.kind, b.text) for b in blocks(english)] == [(b.kind, b.text) for b in blocks(chinese)]

    def figures(path: str) -> list[str]:
        return [line.split("|")[-2:] for line in prose(path).splitlines() if re.search(r"\d\.\d", line) and "|" in line]

    assert len(figures(english)) > 12
    assert figures(english) == figures(chinese)
    assert sorted(re.findall(r"make \w+", text_of(english))) == sorted(re.findall(r"make \w+", text_of(chinese)))


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named = {name for path in ("README.md", "CONTRIBUTING.md") for name in re.findall(r"make ([a-z-]+)", prose(path))}
    assert {"demo", "test"} <= named & targets
    assert named <= targets


# --- reference pages ------------------------------------------------------------------------------------

FILE = "docs/reference/federation-file.md"


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Top level", config.FederationFile.__struct_fields__),
        ("[data]", config.DataTable.__struct_fields__),
        ("[transfer]", set(config.TransferTable.__struct_fields__) - set(config.DataTable.__struct_fields__)),
        (
            "[[participants]]",
            set(config.ParticipantTable.__struct_fields__) - set(config.DataTable.__struct_fields__),
        ),
        (
            "[task]",
            {"kind"} | {f.name for kind in (Forecast, Classification) for f in fields(kind)} - {"name"},
        ),
    ],
)
def test_every_key_is_documented(heading, names):
    assert set(table(section(FILE, heading))) >= set(names), heading


def toml(value: Any) -> str:
    """A default as the page writes it."""
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{list(value)}`" if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize("name", sorted(plugins.BUILT_IN["algorithms"]))
def test_every_option_of_an_algorithm_is_documented_with_its_default(name):
    options = inspect.signature(plugins.resolve("algorithms", name)).parameters
    if not options:
        assert f"`{name}`" in section(FILE, "Options of fedsgd").split("\n\n")[-2:][0]
        return
    told = table(section(FILE, f"Options of {name}"))
    assert set(told) == set(options)
    for option in options.values():
        if option.default is not None:
            assert told[option.name] == toml(option.default), option.name


def test_defaults_of_the_tables_are_those_of_the_code():
    for heading, kind in (("Top level", config.FederationFile), ("[transfer]", config.TransferTable)):
        told, made = table(section(FILE, heading)), kind()
        for key in ("rounds", "workers", "seed", "codec", "items"):
            if key in told and hasattr(made, key):
                assert told[key] == toml(getattr(made, key)), key
    told = table(section(FILE, "[task]").partition("Keys of a classification")[0])
    for key in ("levels", "step", "issue_hour", "naive", "folds"):
        assert told[key] == toml(getattr(Forecast(), key)), key


def test_every_learner_is_documented_with_its_options():
    told = table(section("docs/how-to/bring-your-own-model.md", "A model that ships with fedstill"))
    assert set(told) >= set(plugins.BUILT_IN["learners"])
    for name in set(plugins.BUILT_IN["learners"]) - {"sklearn", "committee", "torch_mlp", "torch_sequence"}:
        for option, given in plugins.resolve("learners", name).OPTIONS.items():
            default = list(given.default) if isinstance(given.default, tuple) else given.default
            assert f"`{option}` {default}" in told[name], f"{name}: {option}"


def test_every_command_and_option_is_documented():
    text = text_of("docs/reference/command-line.md")

    def walk(command: click.Command, name: str) -> None:
        if isinstance(command, click.Group):
            for part, inner in command.commands.items():
                walk(inner, f"{name} {part}")
            return
        title = re.search(rf"^## ({re.escape(name)}.*)$", text, re.MULTILINE)
        assert title, name
        told = section("docs/reference/command-line.md", title[1])
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in told, f"{name} {parameter.opts[0]}"
            else:
                assert (parameter.metavar or str(parameter.name).upper()) in title[1], f"{name} {parameter.name}"

    walk(cli, "fedstill")


def test_every_public_name_is_documented():
    text = prose("docs/reference/python.md") + "".join(block.text for block in blocks("docs/reference/python.md"))
    for name in fedstill.__all__:
        assert re.search(rf"\b{name}\b", text), name
    for name in inspect.signature(fedstill.Federation).parameters:
        assert re.search(rf"\b{name}\b", text), name
    for kind in (fedstill.Layout, fedstill.Member, fedstill.Forecast, fedstill.Classification):
        for field in fields(kind):
            assert field.name == "name" or re.search(rf"\b{field.name}\b", text), f"{kind.__name__}.{field.name}"


def test_the_folders_of_the_design_are_those_of_the_source():
    house = section("docs/design.md", "The house")
    package = ROOT / "src" / "fedstill"
    real = {path.name for path in package.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert set(re.findall(r"^      (\w+)/", house, re.MULTILINE)) == real
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py", "environment.py"}
    assert modules <= set(re.findall(r"\w+\.py", house))


# --- blocks that run ------------------------------------------------------------------------------------


def fedstill_command(line: str, code: int) -> None:
    words = shlex.split(line)
    assert words[0] == "fedstill", line
    try:
        main(words[1:])
        ended = 0
    except SystemExit as done:
        ended = int(done.code or 0)
    assert ended == code, line


def run_block(block: Block, names: dict[str, Any]) -> None:
    mark, _, rest = block.mark.partition(": ")
    if mark == "file":
        path = Path(rest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    elif mark == "edit":
        name, _, line = rest.partition(": ")
        whole = Path(name).read_text(encoding="utf-8")
        assert whole.count(line + "\n") == 1
        Path(name).write_text(whole.replace(line + "\n", block.text), encoding="utf-8")
    elif block.kind == "python":
        exec(compile(block.text, "<documentation>", "exec"), names)  # noqa: S102 - our own pages
    else:
        assert block.kind == "sh"
        for line in block.text.splitlines():
            if mark == "checks":
                line = re.sub(r" --out \S+", "", line.replace("fedstill run ", "fedstill check "))
            fedstill_command(line, 2 if mark == "fails" else 0)


def run_page(path: str) -> int:
    chosen = [block for block in blocks(path) if block.mark]
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in chosen:
        run_block(block, names)
    return len(chosen)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "path",
    ["docs/how-to/classification.md", "docs/how-to/bring-your-own-model.md", "docs/reference/python.md"],
)
def test_pages_run(path, folder):
    assert run_page(path) >= 1


def test_the_tutorial_runs_to_its_end(folder, capsys):
    pytest.importorskip("lightgbm")
    assert run_page("docs/tutorial.md") > 8
    said = capsys.readouterr()
    shown = re.search(r"^    error: (plant\.csv.*)$", text_of("docs/tutorial.md"), re.MULTILINE)
    assert shown
    assert shown[1] in said.err
    for line in re.findall(r"^      ((?:partner|plant): .*)$", text_of("docs/tutorial.md"), re.MULTILINE):
        assert line in said.out
    assert "plant,2017-01-01T00:00:00+01:00," in said.out
    assert Path("week.csv").read_text().count("\n") == 1 + 7 * 24
    assert Path("runs/first/report.html").stat().st_size > 10_000
    command_line = json.loads(Path("runs/first/report.json").read_text())["overall"]["mean"]
    assert json.loads(Path("runs/python/report.json").read_text())["overall"]["mean"] == command_line


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    """What the how-to pages tell to write, laid out as an installed package."""
    home = tmp_path_factory.mktemp("extension")
    points: dict[str, dict[str, str]] = {}
    for path in ("bring-your-own-model", "add-an-algorithm", "add-a-learner", "add-a-codec", "add-a-mechanism"):
        for block in blocks(f"docs/how-to/{path}.md"):
            mark, _, name = block.mark.partition(": ")
            if mark == "file":
                (home / name).parent.mkdir(exist_ok=True)
                (home / name).write_text(block.text, encoding="utf-8")
            elif block.kind == "toml" and "entry-points" in block.text:
                for group, entries in tomllib.loads(block.text)["project"]["entry-points"].items():
                    points.setdefault(group, {}).update(entries)
    (home / "acme_federation" / "__init__.py").touch()
    installed = home / "acme_federation-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-federation\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in entries.items()) for group, entries in points.items()]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    return home


def python_in(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Another Python, which finds the package."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_extensions_of_the_how_to_pages_keep_their_contracts(extension):
    done = python_in(extension, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(extension))
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 80


def test_extensions_of_the_how_to_pages_are_found_and_run(extension):
    listed = json.loads(python_in(extension, "-m", "fedstill.cli.main", "algorithms", "--json").stdout)
    assert "others" in listed["algorithms"]
    assert "alike" in listed["learners"]
    assert "half" in listed["codecs"]
    assert "average" in listed["mechanisms"]
    script = """
from pathlib import Path
from fedstill import Federation, Forecast, Layout, Member, from_frame, load_model
from fedstill.energy.synthetic import synthetic
a, b, public = from_frame(synthetic(n_sites=3, days=120), Layout(timezone="Europe/Berlin")).values()
task = Forecast(naive="week", test=("2016-04-01", "2016-04-20"), companions=())
members = [Member("a", a, "alike", {"neighbours": 20}), Member("b", b, "linear")]
history = Federation(task, members, public, strategy="others", codec="half", items=300).run("out")
assert history.report.communication.bytes_up < 2 * 300 * 5 * 2 + 800, history.report.communication
assert load_model(Path("out/models/a")).learner == "alike"
"""
    done = python_in(extension, "-c", script)
    assert done.returncode == 0, done.stderr


# --- examples -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """The data that the comments of the examples tell to make."""
    home = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        fedstill_command("fedstill data synthetic sites.csv --sites 6 --days 366", 0)
    return home


@pytest.mark.parametrize("name", ["own_csv", "synthetic", "fedavg"])
def test_examples_are_fine(name, sites, monkeypatch):
    monkeypatch.chdir(sites)
    path = ROOT / "examples" / f"{name}.toml"
    assert "fedstill data synthetic sites.csv --sites 6 --days 366" in path.read_text()
    fedstill_command(f"fedstill check {shlex.quote(str(path))}", 0)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.stem)
def test_examples_have_known_keys(path):
    assert len(config.load(path).participants) >= 2


@pytest.mark.slow
def test_fedavg_runs(sites, monkeypatch):
    monkeypatch.chdir(sites)
    fedstill_command(f"fedstill run {shlex.quote(str(ROOT / 'examples' / 'fedavg.toml'))} --quiet --out fedavg", 0)
    assert len(json.loads(Path("fedavg/report.json").read_text())["rounds"]) == 10


def test_the_readme_shows_the_quickstart():
    shown = next(block.text for block in blocks("README.md") if block.kind == "python")
    assert shown.strip() in text_of("examples/quickstart.py")
