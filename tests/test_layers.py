"""Who may import whom: read from the source of every module, so that a lazy import counts like any other."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import fedstill

ROOT = Path(fedstill.__file__).parent

LAYERS = (
    {"errors", "environment", "files"},
    {"sqlite"},
    {"labels", "plugins"},
    {"messages"},
    {"wire"},
    {"strategy", "stopping", "flaws", "codecs", "sites", "grouping", "density", "coverage", "learners"},
    {"calibrate", "crossfit", "privacy"},
    {"round", "keep", "algorithms", "energy", "config"},
    {"participant", "tasks", "evaluation"},
    {"transports"},
    {"models", "members"},
    {"judging", "agreement"},
    {"federation"},
    {"assemble", "contributing", "attacks"},
    {"service"},
    {"agent"},
    {"cli"},
)
"""Units (a module or a package), lowest first; each may import from lower layers and from itself."""

CORE = {"errors", "labels", "messages", "wire", "strategy", "flaws", "codecs", "sites", "grouping", "density"}
CORE |= {"stopping", "calibrate", "coverage", "crossfit", "learners", "plugins", "round", "keep", "algorithms"}
CORE |= {"participant", "privacy", "sqlite"}
"""Units that know nothing of any task, file or network: they import one another alone."""

PURE = CORE - {"errors", "grouping", "learners", "privacy", "sqlite"}
"""Units that need no library but NumPy (and msgspec, for the wire), and that do nothing to the world."""

BESIDE = {"energy", "tasks", "evaluation"}
"""Units beside the core, which know neither rounds nor participants."""

WORLD = {
    *("asyncio", "concurrent", "datetime", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random"),
    *("select", "shutil", "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time", "urllib"),
}
"""What touches clock, disk, network, processes or chance."""

HOMES = {
    "lightgbm": {"learners/lightgbm.py"},
    "xgboost": {"learners/xgboost.py"},
    "torch": {"learners/torch.py", "privacy/opacus.py"},
    "opacus": {"privacy/opacus.py"},
    "safetensors": {"learners/torch.py"},
    "skops": {"learners/store.py"},
    "dp_accounting": {"privacy/pricing.py"},
    "holidays": {"energy/calendar.py"},
    "sklearn": {
        *("learners/sklearn.py", "grouping/clustering.py", "evaluation/metrics.py", "attacks/inversion.py"),
    },
    "jinja2": {"evaluation/report.py"},
    "pygal": {"evaluation/plots.py"},
    "sqlalchemy": {
        *("service/store/databases.py", "service/store/reads.py", "service/store/store.py", "service/store/tables.py"),
        *("service/store/migrations/__init__.py", "service/store/migrations/versions/v1.py"),
    },
    "alembic": {
        *(
            "service/store/migrations/__init__.py",
            "service/store/migrations/env.py",
            "service/store/migrations/versions/v1.py",
        ),
    },
    "cryptography": {f"transports/{name}.py" for name in ("keys", "certificates", "identity", "authority")},
    "fastapi": {
        f"service/http/{name}.py" for name in ("api", "house", "members", "participants", "overseers", "transfer")
    },
    "uvicorn": {"service/http/server.py"},
    "aiohttp": {"transports/https.py", "transports/web.py"},
    "paho": {"transports/mqtt/connection.py"},
    "socks": {"transports/mqtt/proxies.py"},
    "prometheus_client": {"service/http/gauges.py"},
}
"""The only files that may name a heavy library."""


@cache
def modules():
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def unit(name):
    """The part of the package that a file lies in: "round" of round.py, "codecs" of codecs/raw.py."""
    return name.partition("/")[0].removesuffix(".py")


@cache
def tree(name):
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


@cache
def imports(name):
    """Full names of all that a module imports, at its top or later, by `import` or by the learners' `need`."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "need":
            found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return found


def inside(name):
    """The units of fedstill that a module imports."""
    parts = (imported.split(".") for imported in imports(name))
    return {part[1] for part in parts if part[0] == "fedstill" and len(part) > 1 and part[1] != "__version__"}


def outside(name):
    """The other packages that a module imports."""
    return {imported.partition(".")[0] for imported in imports(name)} - {"fedstill", "__future__"}


def of(units):
    return [name for name in modules() if unit(name) in units]


def test_every_module_has_its_layer():
    known = set().union(*LAYERS) | {"__init__", "testing"}
    assert {unit(name) for name in modules()} <= known, "add the new unit to LAYERS"
    assert sum(map(len, LAYERS)) == len(set().union(*LAYERS))


@pytest.mark.parametrize("name", [name for name in modules() if unit(name) not in ("__init__", "testing")])
def test_imports_go_down(name):
    depth = next(depth for depth, units in enumerate(LAYERS) if unit(name) in units)
    assert inside(name) <= set().union(*LAYERS[:depth]) | {unit(name)}


@pytest.mark.parametrize("name", of(CORE))
def test_the_core_imports_the_core(name):
    assert inside(name) <= CORE


@pytest.mark.parametrize("name", of(BESIDE))
def test_tasks_and_reports_know_no_rounds(name):
    assert inside(name) <= {"errors", "files", "labels", "sites", "energy", unit(name)}


@pytest.mark.parametrize("name", of(PURE))
def test_the_pure_core_needs_numpy_alone_and_leaves_the_world_alone(name):
    allowed = {"numpy", "msgspec"} if name == "wire.py" else {"numpy"}
    assert outside(name) <= (set(sys.stdlib_module_names) - WORLD) | allowed
    calls = {
        node.func.id for node in ast.walk(tree(name)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input"}


@pytest.mark.parametrize("library", HOMES)
def test_heavy_libraries_have_homes(library):
    assert {name for name in modules() if library in outside(name)} == HOMES[library]


def test_what_is_spent_is_plain_data():
    assert outside("privacy/spending.py") <= (set(sys.stdlib_module_names) - WORLD) | {"msgspec"}
    assert inside("privacy/spending.py") == set()


def test_pandas_stays_with_data():
    assert {unit(name) for name in modules() if "pandas" in outside(name)} <= {"energy", "tasks", "assemble", "cli"}


def test_nothing_but_tests_imports_tests():
    assert [name for name in modules() if "testing" in inside(name) and unit(name) != "testing"] == []
    assert {unit(name) for name in modules() if outside(name) & {"pytest", "hypothesis"}} <= {"testing"}


HEAVY = """{
    'pandas', 'sklearn', 'scipy', 'lightgbm', 'xgboost', 'torch', 'opacus', 'holidays', 'skops', 'fastparquet',
    'aiohttp', 'pytest', 'dp_accounting'
}"""


@pytest.mark.parametrize(
    "statement",
    [
        "import fedstill",
        "from fedstill.cli.main import main; main(['--help'])",
        "from fedstill.cli.main import main; main(['data', 'synthetic', '--help'])",
        "import fedstill.cli.coordinating",
        "import fedstill.privacy.durable",
        "import fedstill.participant, fedstill.round, fedstill.codecs.raw, fedstill.algorithms.fedmd, fedstill.plugins",
    ],
)
def test_what_is_not_needed_is_not_loaded(statement):
    """The core, and help on the command line, come without libraries that take a second to load."""
    code = f"""
import sys
try:
    {statement}
except SystemExit:
    pass
print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_the_command_line_knows_the_steps_of_synthetic_data():
    """It names them without importing the module that has them."""
    from fedstill.cli.data import STEPS
    from fedstill.energy.synthetic import QUARTERS_PER_STEP

    assert list(STEPS) == list(QUARTERS_PER_STEP)
