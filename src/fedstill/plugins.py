"""Everything that has a name in a federation file, and where it lives: imported only when chosen.

Others add to these tables by an entry point in their own package, for example::

    [project.entry-points."fedstill.algorithms"]
    my-method = "my_package.my_module:my_method"
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from fedstill.errors import ConfigError, FedstillError, MissingExtra

BUILT_IN: dict[str, dict[str, str]] = {
    "algorithms": {
        "local": "fedstill.algorithms.references:local",
        "pooled": "fedstill.algorithms.references:pooled",
        "fedmd": "fedstill.algorithms.fedmd:fedmd",
        "grouped": "fedstill.algorithms.grouped:grouped",
        "sketched": "fedstill.algorithms.sketched:sketched",
        "dsfl": "fedstill.algorithms.dsfl:dsfl",
        "fd": "fedstill.algorithms.fd:fd",
        "selective": "fedstill.algorithms.selective:selective",
        "ktpfl": "fedstill.algorithms.ktpfl:ktpfl",
        "comet": "fedstill.algorithms.comet:comet",
        "served": "fedstill.algorithms.served:served",
        "fedavg": "fedstill.algorithms.fedavg:fedavg",
        "dp_fedavg": "fedstill.algorithms.dp_fedavg:dp_fedavg",
        "fedprox": "fedstill.algorithms.fedprox:fedprox",
        "fedper": "fedstill.algorithms.fedper:fedper",
        "clustered": "fedstill.algorithms.clustered:clustered",
        "fedsgd": "fedstill.algorithms.fedsgd:fedsgd",
    },
    "learners": {
        "lightgbm": "fedstill.learners.lightgbm:LightGBM",
        "xgboost": "fedstill.learners.xgboost:XGBoost",
        "hist_gradient_boosting": "fedstill.learners.sklearn:HistGradientBoosting",
        "extra_trees": "fedstill.learners.sklearn:ExtraTrees",
        "mlp": "fedstill.learners.networks:MLP",
        "linear": "fedstill.learners.networks:Linear",
        "committee": "fedstill.learners.committee:Committee",
        "sklearn": "fedstill.learners.sklearn:Estimator",
        "torch_mlp": "fedstill.learners.torch:TorchMLP",
        "torch_sequence": "fedstill.learners.torch:TorchSequence",
    },
    "tasks": {
        "forecast": "fedstill.tasks.forecast:Forecast",
        "classification": "fedstill.tasks.classification:Classification",
    },
    "mechanisms": {
        "dp_sgd": "fedstill.privacy.dp_sgd:DPSGD",
        "opacus": "fedstill.privacy.opacus:NetworkDPSGD",
        "committee": "fedstill.privacy.committee:PrivateCommittee",
        "label_noise": "fedstill.privacy.label_noise:LabelNoise",
        "clipped_update": "fedstill.privacy.clipped_update:ClippedUpdate",
        "silent": "fedstill.privacy.silent:Silent",
    },
    "codecs": {
        "raw": "fedstill.codecs.raw:Raw",
    },
}
"""Group -> name -> "module:attribute"."""


def names(group: str) -> dict[str, str]:
    """All names of a group, built in and from entry points, with the place each lives at."""
    added = {point.name: point.value for point in entry_points(group=f"fedstill.{group}")}
    return {**added, **BUILT_IN[group]}  # nobody replaces a built-in name unnoticed


def resolve(group: str, name: str) -> Any:
    """Import what a name stands for.

    Raises
    ------
    ConfigError
        Where nothing has that name, or what an entry point names cannot be imported.
    MissingExtra
        Where a library that it needs is not installed.
    """
    known = BUILT_IN[group] if name in BUILT_IN[group] else names(group)  # installed packages take long to look through
    if name not in known:
        raise ConfigError(f"there is no {group[:-1]} '{name}'", remedy=did_you_mean(name, known))
    module, _, attribute = known[name].partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if f"{module}.".startswith(f"{missing}."):
            raise ConfigError(f"{group[:-1]} '{name}' at {known[name]} cannot be imported: {error}") from None
        package = missing.partition(".")[0]
        raise MissingExtra(
            f"{group[:-1]} '{name}' needs the package '{package}', which is not installed",
            remedy=f"Install it: pip install {package}",
        ) from None
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{group[:-1]} '{name}' at {known[name]} cannot be imported: {error}") from None


def build(group: str, name: str, options: Mapping[str, Any], *arguments: Any, where: str = "") -> Any:
    """Resolve a name and call it with options, each checked against its signature.

    Raises
    ------
    ConfigError
        Where an option is not one of the builder's, has a value it does not take, or one that it needs is missing.
    """
    builder = resolve(group, name)
    signature = inspect.signature(builder)
    accepted = signature.parameters
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        allowed = [p.name for p in list(accepted.values())[len(arguments) :] if p.name != "self"]
        for option in options:
            if option not in allowed:
                raise ConfigError(
                    f"{group[:-1]} '{name}' has no option '{option}'",
                    where=where,
                    remedy=did_you_mean(option, allowed),
                )
    try:
        signature.bind(*arguments, **options)
        return builder(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{group[:-1]} '{name}' cannot be built: {error}", where=where, remedy="Change its options"
        ) from error


def summaries(group: str) -> dict[str, str]:
    """First line of the docstring of everything in a group, or why it cannot be imported."""
    told = {}
    for name in names(group):
        try:
            told[name] = (inspect.getdoc(resolve(group, name)) or "").partition("\n")[0]
        except FedstillError as error:
            told[name] = error.remedy or error.what
    return told


def did_you_mean(word: str, known: Any) -> str:
    """A remedy that lists what there is, the nearest first."""
    ordered = sorted(known)
    if not ordered:
        return "There are none"
    close = difflib.get_close_matches(word, ordered, n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}There are: {', '.join(ordered)}"
