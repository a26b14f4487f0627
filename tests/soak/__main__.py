"""`make soak`: the law of design 5 on real processes.

Numbered messages go in, a sink counts what comes out, and meanwhile everything dies: processes,
power, single flushes, the disk. A message that got 250 must arrive; it may come twice only when an
attempt was under way as something died, and then QMGR's log must name it.
"""
import sys
from collections.abc import Callable

import click

from tests.soak import disk, flushes, kill, powercut
from tests.soak.rig import Figures, LawBroken

Part = Callable[[int, int, Callable[[], None]], Figures]
HEAD = ["part", "rounds", "accepted", "lost", "duplicates", "unnamed", "restart max s", "seconds", ""]


def parts(kills: int, cuts: int, each: int) -> list[tuple[str, str, Part, int, int]]:
    """Name, why it can't run here, what runs it, its rounds and how often it ticks."""
    return [
        ("kill", "", kill.run, kills, kills),
        ("power", powercut.missing(), powercut.run, cuts, cuts),
        ("control", powercut.missing(), powercut.control, 4, 4),
        ("flushes", flushes.missing(), flushes.run, each, each * len(flushes.PROGRAMS) * len(flushes.FAULTS)),
        ("disk", flushes.missing(), disk.run, 2, 8),
    ]


@click.command(help=__doc__)
@click.option("--kills", default=100, show_default=True, help="rounds of kill -9")
@click.option("--cuts", default=100, show_default=True, help="power cuts")
@click.option("--flushes", "each", default=15, show_default=True, help="flushes of each program and fault")
@click.option("--seed", default=1, show_default=True, help="of all that is random")
@click.option("--only", multiple=True, metavar="PART", help="kill, power, control, flushes, disk; may be repeated")
def main(kills: int, cuts: int, each: int, seed: int, only: tuple[str, ...]) -> None:
    rows = [HEAD]
    broken = False
    for name, why, part, rounds, ticks in parts(kills, cuts, each):
        if only and name not in only:
            continue
        if why:
            rows.append([name, "skipped: " + why, *[""] * (len(HEAD) - 2)])
            continue
        try:
            rows.append(_watched(name, part, rounds, ticks, seed).row())
        except (LawBroken, AssertionError) as error:
            broken = True
            click.echo(f"{name}: {error}", err=True)
            rows.append([name, "BROKEN", *[""] * (len(HEAD) - 2)])
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEAD))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    sys.exit(1 if broken else 0)


def _watched(name: str, part: Part, rounds: int, ticks: int, seed: int) -> Figures:
    """Run a part with a progress bar where somebody watches."""
    if not sys.stderr.isatty():
        click.echo(f"{name} ...", err=True)
        return part(rounds, seed, lambda: None)
    with click.progressbar(length=ticks, label=f"{name:<8}", file=sys.stderr) as bar:
        return part(rounds, seed, lambda: bar.update(1))


if __name__ == "__main__":
    main()
