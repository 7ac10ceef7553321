"""The learning rate of every step."""

import math
from collections.abc import Callable


def cosine_schedule(peak: float, floor: float, warmup: int, total: int) -> Callable[[int], float]:
    """Learning rate of optimizer step 0, 1, ...: linear warm-up, then a cosine down to `floor`."""

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return rate
