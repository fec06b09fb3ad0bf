"""`python -m tests.simulation --seed 1 --nights 365`: live through nights, print what they came to."""

import argparse
import time

from tests.simulation.year import simulate


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--seeds", type=int, default=1)
    asked.add_argument("--nights", type=int, default=365)
    asked.add_argument("--items", type=int, default=100)
    options = asked.parse_args()
    for seed in range(options.seed, options.seed + options.seeds):
        began = time.process_time()
        history = simulate(seed, options.nights, options.items)
        print(f"{history}  {time.process_time() - began:.1f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
