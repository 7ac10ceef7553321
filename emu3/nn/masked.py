"""What is added to the scores of what attention must not see."""

import numpy as np

# Finite, so that a row which drops everything stays free of NaN.
MASKED = float(np.finfo(np.float32).min) / 2
