"""What a text states about a scene, whatever its language: the meeting point of text and judge.

A field that is None is not stated. Places are thirds of the picture: rows top, middle, bottom;
columns left, middle, right.
"""

from dataclasses import dataclass

from train.mini.scenes import Ground, Scene, Shape

ROWS = ("top", "middle", "bottom")
COLS = ("left", "middle", "right")
OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
# A place is said in a caption only this far (as a share of the picture) from a third's border.
CLEAR = 0.06


@dataclass(frozen=True)
class ShapeFact:
    """What is stated of one shape."""

    kind: str | None = None
    colour: str | None = None
    size: str | None = None
    row: str | None = None
    col: str | None = None


@dataclass(frozen=True)
class Facts:
    """All that a text states; `relations` holds (index, name of scenes.RELATIONS, index)."""

    shapes: tuple[ShapeFact, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    ground: Ground | None = None

    @property
    def count(self) -> int:
        """Number of shapes: a text names each one."""
        return len(self.shapes)


def third(centre: float, length: float, names: tuple[str, str, str]) -> str:
    """The third of 0..`length` that `centre` lies in; a border belongs to the middle."""
    if 3 * centre < length:
        return names[0]
    return names[2] if 3 * centre > 2 * length else names[1]


def is_clear(centre: float, length: float) -> bool:
    """Whether `centre` keeps clear of the borders between thirds."""
    share = centre / length
    return min(abs(share - 1 / 3), abs(share - 2 / 3)) >= CLEAR


def place(shape: Shape, scene: Scene) -> tuple[str, str]:
    """The (row, col) thirds the shape's centre lies in."""
    row, col = shape.centre
    return third(row, scene.rows, ROWS), third(col, scene.cols, COLS)


def clear_place(shape: Shape, scene: Scene) -> tuple[str | None, str | None]:
    """As `place`, with None for an axis on which the shape lies near a border of thirds."""
    (row, col), (y, x) = place(shape, scene), shape.centre
    return row if is_clear(y, scene.rows) else None, col if is_clear(x, scene.cols) else None


def all_facts(scene: Scene) -> Facts:
    """Every fact but relations, shapes in reading order of their places."""

    def reading_order(shape: Shape) -> tuple:
        row, col = place(shape, scene)
        return ROWS.index(row), COLS.index(col), *shape.centre

    ordered = sorted(scene.shapes, key=reading_order)
    facts = (ShapeFact(s.kind, s.colour, s.size, *place(s, scene)) for s in ordered)
    return Facts(tuple(facts), ground=scene.ground)


def may_be(fact: ShapeFact, shape: Shape, scene: Scene) -> bool:
    """Whether nothing in `fact` clearly speaks against `shape`."""
    row, col = clear_place(shape, scene)
    pairs = ((fact.kind, shape.kind), (fact.colour, shape.colour), (fact.size, shape.size))
    places = ((fact.row, row), (fact.col, col))
    return all(stated in (None, true) for stated, true in pairs) and all(
        stated is None or true in (None, stated) for stated, true in places
    )
