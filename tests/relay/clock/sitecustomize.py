"""What a node's processes start with where a test moves their clock: as many seconds ahead as the file CLOCK says."""

import os
import time
from pathlib import Path

real, ahead = time.time, Path(os.environ["CLOCK"])
time.time = lambda: real() + (float(ahead.read_text()) if ahead.exists() else 0.0)
