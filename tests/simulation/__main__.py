"""`python -m tests.simulation --seed 1 --nights 365`: live through nights, print what they came to."""

import argparse
import sys
import time

from tests.simulation.year import Broken, simulate


def main() -> int:
    """Live through one seed or several; returns 1 when an invariant did not hold in one of them."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--seed", type=int, default=1, help="the first seed")
    asked.add_argument("--seeds", type=int, default=1, help="how many")
    asked.add_argument("--nights", type=int, default=365)
    asked.add_argument("--items", type=int, default=100, help="of each job and night")
    options = asked.parse_args()
    broken = 0
    for seed in range(options.seed, options.seed + options.seeds):
        began = time.process_time()
        try:
            history = simulate(seed, options.nights, options.items)
            print(f"{history} {time.process_time() - began:.1f} s of CPU", flush=True)
        except Broken as error:
            broken += 1
            print(error, flush=True)
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main())
