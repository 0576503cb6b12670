"""Draw the plots of docs/evidence.md from the results that the benchmarks left.

python benchmarks/plots.py
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import pandas as pd
import pygal
from pygal.style import Style

from energy import ROWS, table

HERE = Path(__file__).parent
STYLE = Style(colors=("#4878a8", "#c05020"), background="white", plot_background="white", font_family="sans-serif")


def bars(file: Path) -> bytes:
    """Mean nMAE of every row of one energy benchmark, lowest first, with the best floor as the last bar."""
    frame = pd.DataFrame(json.loads(file.read_text(encoding="utf-8"))["measured"])
    means = table(frame[frame["row"].isin(list(ROWS))])["nMAE %"].sort_values()
    mixed = frame[frame["row"] == "grouped (default)"]
    floors = {way: 100 * mixed[f"{way} nmae"].mean() for way in ("naive_day", "naive_similar", "naive_both")}
    best = min(floors, key=lambda way: floors[way])
    bare = {"each alone": 100 * mixed["local nmae"].mean(), f"floor ({best})": floors[best]}
    chart = pygal.HorizontalBar(
        style=STYLE, show_legend=False, print_values=True, width=760, height=34 * (len(means) + 4)
    )
    values = {**means.to_dict(), **bare}
    chart.x_labels = list(values)
    chart.value_formatter = "{:.2f} %".format
    chart.add("nMAE", [{"value": v, "color": STYLE.colors[int("default" in k)]} for k, v in values.items()])
    return bytes(chart.render())


@click.command()
@click.option("--results", type=click.Path(path_type=Path), default=HERE / "results")
@click.option("--out", type=click.Path(path_type=Path), default=HERE.parent / "docs" / "images")
def main(results: Path, out: Path) -> None:
    """Draw one picture for each final energy result."""
    for name in ("pjm", "cambridge"):
        file = results / f"energy-{name}-final.json"
        if file.exists():
            (out / f"energy-{name}.svg").write_bytes(bars(file))
            print(out / f"energy-{name}.svg")


if __name__ == "__main__":
    main()
