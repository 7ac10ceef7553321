"""What a text states about a picture or a clip, whatever its language: where text and judge meet.

A field that is None is not stated. Places are thirds of the picture: rows top, middle, bottom;
columns left, middle, right.
"""

from dataclasses import dataclass

from train.mini.world.motion import Clip
from train.mini.world.scenes import Scene, Thing

ROWS = ("top", "middle", "bottom")
COLS = ("left", "middle", "right")
# A place is said only this far (as a share of the picture) from a border between thirds.
CLEAR = 0.06


@dataclass(frozen=True)
class ThingFact:
    """What is stated of one thing."""

    kind: str
    colour: str | None = None
    size: str | None = None
    row: str | None = None
    col: str | None = None


@dataclass(frozen=True)
class MoveFact:
    """What is stated of how the thing of that number moves.

    `way` is -1 to the left or up, 1 to the right or down; `start` the third it comes from.
    """

    index: int
    verb: str
    way: int
    start: str | None = None


@dataclass(frozen=True)
class Facts:
    """All that a text states; `relations` holds (index, name of scenes.RELATIONS, index)."""

    things: tuple[ThingFact, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    ground: str | None = None
    moves: tuple[MoveFact, ...] = ()

    @property
    def count(self) -> int:
        """Number of things: a text names each one."""
        return len(self.things)


def third(centre: float, length: float, names: tuple[str, str, str]) -> str:
    """The third of 0..`length` that `centre` lies in; a border belongs to the middle."""
    if 3 * centre < length:
        return names[0]
    return names[2] if 3 * centre > 2 * length else names[1]


def is_clear(centre: float, length: float) -> bool:
    """Whether `centre` keeps clear of the borders between thirds."""
    share = centre / length
    return min(abs(share - 1 / 3), abs(share - 2 / 3)) >= CLEAR


def place(thing: Thing, scene: Scene) -> tuple[str, str]:
    """The (row, col) thirds a thing's centre lies in."""
    row, col = thing.centre
    return third(row, scene.rows, ROWS), third(col, scene.cols, COLS)


def clear_place(thing: Thing, scene: Scene) -> tuple[str | None, str | None]:
    """As `place`, with None for an axis on which the thing lies near a border of thirds."""
    (row, col), (y, x) = place(thing, scene), thing.centre
    return row if is_clear(y, scene.rows) else None, col if is_clear(x, scene.cols) else None


def all_facts(scene: Scene) -> Facts:
    """Kinds, colours, sizes and ground of a scene: what a full description says."""
    return Facts(tuple(ThingFact(*t.look) for t in scene.things), (), scene.ground)


def moves_of(clip: Clip) -> tuple[MoveFact, ...]:
    """How each thing of a clip moves at its beginning, without where it comes from."""
    return tuple(MoveFact(m.index, m.verb, first_way(clip, m.index, m.way)) for m in clip.moving)


def first_way(clip: Clip, index: int, otherwise: int) -> int:
    """The way a thing first moves in a clip; `otherwise` when it never does."""
    for before, now in zip(clip.moments, clip.moments[1:]):
        a, b = before.things[index], now.things[index]
        change = (b.col - a.col) if a.row == b.row else (b.row - a.row)
        if a.side == b.side and change:
            return 1 if change > 0 else -1
    return otherwise
