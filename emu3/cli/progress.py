"""A progress bar fed by the events of `model.stream`."""

from tqdm import tqdm


class Progress:
    """A bar of image rows or answer tokens with tokens/s and the time left.

    Args:
        total: rows of all pictures, or None for answers, whose length nobody knows.
        unit: what the bar counts: "row" or "token".
    """

    def __init__(self, total: int | None, unit: str) -> None:
        self.tokens = 0
        self.bar = tqdm(total=total, unit=unit, dynamic_ncols=True, leave=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def add(self, units: int, tokens: int) -> None:
        """Count finished units and the tokens they took."""
        self.tokens += tokens
        self.bar.update(units)
        elapsed = self.bar.format_dict["elapsed"]
        if self.bar.unit == "row" and elapsed:
            self.bar.set_postfix_str(f"{self.tokens / elapsed:.1f} tokens/s", refresh=False)
