"""A day of mail: `python -m tests.sim.run --rcpts 1000000 --sites 5000`."""
import argparse
import random
import resource
import statistics
import time

from tests.sim.sites import make_sites
from tests.sim.world import Simulation


def play(rcpts: int, sites: int, seed: int, hours: float, spread: float = 1.0) -> Simulation:
    """Half of the recipients are those of mailings, 500 in a message; the others have a message each.

    All arrive within the first `spread` hours, mailings in half of that; sites get mail as Zipf's law says.
    """
    luck = random.Random(seed)
    sim = Simulation(make_sites(sites, 20, luck), seed)
    ips = list(sim.sites)
    weights = [1.0 / (rank + 1) ** 0.7 for rank in range(sites)]
    targets = luck.choices(ips, weights, k=rcpts)
    addresses = [b"u%d@%b" % (number, ip.encode()) for number, ip in enumerate(targets)]
    half = rcpts // 2
    for at in range(0, half, 500):
        sim.send(luck.uniform(0, spread * 1800), b"news@bulk%d.test" % (at % 3), addresses[at:min(at + 500, half)])
    for address in addresses[half:]:
        sender = b"u%d@home%d.test" % (luck.randrange(1000), luck.randrange(50))
        sim.send(luck.uniform(0, spread * 3600), sender, [address])
    return sim.run(hours * 3600.0)


def main() -> None:
    """Print what a run came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rcpts", type=int, default=1_000_000)
    parser.add_argument("--sites", type=int, default=5000)
    parser.add_argument("--hours", type=float, default=48.0)
    parser.add_argument("--spread", type=float, default=6.0, help="hours within which all arrives")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.process_time()
    sim = play(asked.rcpts, asked.sites, asked.seed, asked.hours, asked.spread)
    print(f"{len(sim.arrived)} recipients, {len(sim.sites)} sites: {sum(sim.ends.values())} delivered, "
          f"{len(sim.store.rcpts)} wait, {sim.deferrals} deferrals by servers, {sim.refused} transactions refused; "
          f"{time.process_time() - began:.0f} s CPU, "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
    for kind, delays in sorted(sim.delays.items()):
        cuts = statistics.quantiles(delays, n=100)
        print(f"{kind:8} {len(delays):8} median {cuts[49]:8.1f} s  p99 {cuts[98]:8.1f} s  most {max(delays):8.1f} s")
    down = [site.tries_while_down for site in sim.sites.values() if site.kind == "dead"]
    print(f"tries at a dead server: {statistics.median(down):.0f}, most {max(down)}")


if __name__ == "__main__":
    main()
