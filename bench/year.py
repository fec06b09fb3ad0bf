"""Live through simulated nights, faults and all, and tell the processor time: `year.py NIGHTS`."""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.simulation.year import simulate

began = time.process_time()
history = simulate(seed=1, nights=int(sys.argv[1]))
print(json.dumps({"seconds": time.process_time() - began, "items": history.items, "digest": history.digest}))
