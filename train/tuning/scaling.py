"""Loss scaling, so that small gradients survive in float16 (Micikevicius et al. 2018)."""

import math


class LossScaler:
    """The scale of the next step.

    Args:
        kind: "none" (1), "static" (always `scale`) or "dynamic".
        scale: first value.
        factor: a dynamic scale is divided by it after an overflow and multiplied after `window`
            good steps in a row.
    """

    def __init__(self, kind: str, scale: float, factor: float, window: int) -> None:
        self.kind, self.factor, self.window = kind, factor, window
        self.scale = 1.0 if kind == "none" else scale
        self.good = 0
        self.refused = 0  # steps in a row that no smaller scale could have saved

    def accepts(self, norm: float) -> bool:
        """Whether gradients of this norm may be used; adapts a dynamic scale."""
        finite = math.isfinite(norm)
        if finite:
            self.refused = 0
        elif self.kind != "dynamic" or self.scale <= 1:
            self.refused += 1
        if self.kind != "dynamic":
            return finite
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.scale = max(1.0, self.scale / self.factor)
        elif self.good == self.window:
            self.scale, self.good = self.scale * self.factor, 0
        return finite

    def values(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"scale": self.scale, "good": self.good}

    def restore(self, values: dict[str, float]) -> None:
        """What `values` gave, of a run with the same kind of scaler."""
        if self.kind == "dynamic":
            self.scale, self.good = values["scale"], int(values["good"])
