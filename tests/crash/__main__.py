"""`make crash`: the crash explorer in full.

A scripted life of a server on a disk in memory is stopped at each of its storage calls, what was not
flushed is lost in many ways, and after recovery every accepted message must end exactly once. Then each
call fails once, and each flush of the code is left out once: that must be noticed.
"""
import random
import sys
import time
from collections.abc import Callable, Iterator

import click

from tests.crash.explorer import Violation, calls, explore, explore_error, flush_sites, missed

Story = tuple[str, Callable[[], None]]


@click.command(help=__doc__)
@click.option("--seeds", default=60, show_default=True, help="ways to lose what was not flushed, for each stop")
@click.option("--missed-within", default=3, show_default=True, help="seeds to look for who misses a flush")
def main(seeds: int, missed_within: int) -> None:
    began, total = time.monotonic(), calls()
    click.echo(f"storage calls in the workload: {total}")
    bad = _play("stop", [(f"stop {stop_at} seed {seed}", lambda s=stop_at, n=seed: explore(s, n))
                         for seed in range(seeds) for stop_at in range(1, total + 1)])
    bad += _play("error", [(f"error {fail_at} full {is_full}", lambda f=fail_at, e=is_full: explore_error(f, is_full=e))
                           for is_full in (False, True) for fail_at in range(1, total + 1)])
    click.echo("flushes, and the first story (stop, seed) that breaks the law without each:")
    for site in flush_sites():
        found = missed(site, missed_within, total)
        bad += found is None
        click.echo(f"  {site}: {found or 'NOBODY MISSES IT'}")
    click.echo(f"{'FAILED' if bad else 'held'}: {bad} violations, {time.monotonic() - began:.0f} seconds")
    sys.exit(1 if bad else 0)


def _play(label: str, stories: list[Story]) -> int:
    """Run them all in random order; how many broke the law."""
    random.Random(label).shuffle(stories)
    bad = 0
    for name, story in _watched(label, stories):
        try:
            story()
        except Violation as error:
            bad += 1
            if bad <= 10:
                click.echo(f"  {name}: {type(error).__name__}: {error}")
    click.echo(f"{label}: {len(stories)} stories, {bad} violations")
    return bad


def _watched(label: str, stories: list[Story]) -> Iterator[Story]:
    if not sys.stderr.isatty():
        yield from stories
        return
    with click.progressbar(stories, label=f"{label:<6}", file=sys.stderr) as bar:
        yield from bar


if __name__ == "__main__":
    main()
