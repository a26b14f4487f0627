"""Figures as a table in Markdown and as a plot."""
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One figure of both servers; `goal` is what the ratio should reach, and whether it is a floor or a ceiling."""

    what: str
    ours: float
    theirs: float | None
    goal: str

    @property
    def ratio(self) -> float | None:
        """Ours by theirs."""
        return self.ours / self.theirs if self.theirs else None


def table(rows: list[Row], machine: str, when: str) -> str:
    """The figures as Markdown."""
    lines = [f"Measured {when} on {machine}; medians of runs in turn.", "",
             "| what | meta1g | Postfix | ratio | goal |", "| --- | ---: | ---: | ---: | --- |"]
    for row in rows:
        theirs = "" if row.theirs is None else _text(row.theirs)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(f"| {row.what} | {_text(row.ours)} | {theirs} | {ratio} | {row.goal} |")
    return "\n".join(lines) + "\n"


def _text(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def plot(rows: list[Row], path: Path) -> None:
    """The ratios as bars; needs matplotlib."""
    import matplotlib  # noqa: PLC0415 - only who wants the picture needs it

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    shown = [row for row in rows if row.ratio is not None]
    figure, axes = pyplot.subplots(figsize=(9, 0.42 * len(shown) + 1))
    positions = range(len(shown), 0, -1)
    axes.barh(positions, [row.ratio or 0.0 for row in shown], color="#4477aa")
    axes.set_yticks(positions, [row.what for row in shown])
    axes.axvline(1.0, color="#666666", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("meta1g by Postfix (more is better for rates, less for all else)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
