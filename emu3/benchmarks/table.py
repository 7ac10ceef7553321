"""Tables of results in Markdown, in the columns people publish; empty columns are left out."""

from dataclasses import dataclass, field

from emu3.benchmarks.measure import Timing


@dataclass
class Row:
    """One line: `timing` in seconds per step; `rate` things made per step, named by `unit`.

    `moved` is bytes a step has to read, `bandwidth` what the machine reads per second; `against`
    is our timing, which the line is compared with; `memory` is bytes above weights and imports;
    `extra` holds further columns.
    """

    what: str
    timing: Timing
    mode: str = ""
    precision: str = ""
    batch: int | None = None
    resolution: str = ""
    attention: str = ""
    rate: float | None = None
    unit: str = "tokens/s"
    moved: float | None = None
    bandwidth: float | None = None
    memory: int | None = None
    against: Timing | None = None
    extra: dict[str, str] = field(default_factory=dict)

    def cells(self) -> dict[str, str]:
        """Column names and texts, empty where there is nothing to say."""
        median = self.timing.median
        cells = {
            "what": self.what,
            "mode": self.mode,
            "precision": self.precision,
            "batch": str(self.batch or ""),
            "resolution": self.resolution,
            "attention": self.attention,
            "s/step": f"{median:.4g}",
            "spread": self.timing.spread(),
            self.unit: "" if self.rate is None else f"{self.rate / median:.4g}",
        }
        if self.moved is not None:
            cells["GB/s"] = f"{self.moved / median / 1e9:.1f}"
            if self.bandwidth:
                cells["of read bandwidth"] = f"{self.moved / median / self.bandwidth:.0%}"
        if self.memory is not None:
            cells["peak memory"] = f"{self.memory / 2**30:.2f} GiB"
        if self.against is not None:
            cells["times emu3"] = f"{self.against.ratio(self.timing):.2f}"
        return cells | self.extra


def show(rows: list[Row]) -> None:
    """Print rows as one table."""
    cells = [row.cells() for row in rows]
    names = list(dict.fromkeys(name for line in cells for name in line))
    names = [name for name in names if any(line.get(name) for line in cells)]
    print(_line(names))
    print(_line(["---"] * len(names)))
    for line in cells:
        print(_line([line.get(name, "") for name in names]))


def _line(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"
