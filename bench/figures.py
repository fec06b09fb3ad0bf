"""What the measured programs share: how many workers there are, and how a figure is handed to the table."""

import json
import resource
import sys

WORKERS = 100


def told(seconds: float, **more: float) -> None:
    """Print the figures of this process; memory is the peak, in MiB."""
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(json.dumps({"seconds": seconds, "peak_mib": peak} | more))
