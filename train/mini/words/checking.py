"""Whether a picture or a clip, as the judge reads it, is what was asked for."""

from collections.abc import Sequence
from itertools import permutations

from train.mini.words.facts import COLS, ROWS, Facts, ThingFact, third
from train.mini.world.motion import FRAMES, between
from train.mini.world.palette import CELL
from train.mini.world.reading import Read, Reading
from train.mini.world.scenes import Scene, Thing, relation

SAME_PLACE = 0.5  # cells up to which two places are one
MARGIN = 0.5  # cells: half of what `scenes.relation` asks of a relation that may be stated
MOVED = 1.0  # cells that what moves covers at least between first and last frame
GROWN = 0.6  # cells by which a side changes at least
HELD = 0.8  # share of a clip's frames in which its things must be seen


def check(reading: Reading, facts: Facts) -> dict[str, bool]:
    """Whether a picture shows what a text states, by attribute; "right": in all of them.

    Things are paired with facts in the way that suits the picture best.
    """
    seen = [*reading.things[:6], *[None] * max(0, facts.count - len(reading.things))]
    verdicts = [_verdict(reading, paired, facts) for paired in permutations(seen, facts.count)]
    return max(verdicts, key=lambda v: (v["right"], sum(v.values())))


def _verdict(reading: Reading, paired: tuple[Read | None, ...], facts: Facts) -> dict[str, bool]:
    verdict = {"count": len(reading.things) == facts.count}
    for verdict_name, name in (("thing", "kind"), ("colour", "colour"), ("size", "size")):
        stated = [(getattr(f, name), s) for f, s in zip(facts.things, paired)]
        stated = [(value, s) for value, s in stated if value is not None]
        if stated:
            verdict[verdict_name] = all(s is not None and getattr(s, name) == v for v, s in stated)
    placed = [(f, s) for f, s in zip(facts.things, paired) if f.row or f.col]
    if placed:
        verdict["place"] = all(s is not None and in_place(f, s, reading) for f, s in placed)
    if facts.relations:
        verdict["relation"] = _related(facts, paired)
    if facts.ground is not None:
        verdict["ground"] = reading.ground == facts.ground
    return verdict | {"right": all(verdict.values())}


def in_place(fact: ThingFact, seen: Read, reading: Reading) -> bool:
    """Whether a thing is in the third that is stated."""
    row = third(seen.centre[0], reading.rows, ROWS)
    col = third(seen.centre[1], reading.cols, COLS)
    return fact.row in (None, row) and fact.col in (None, col)


def _related(facts: Facts, paired: tuple[Read | None, ...]) -> bool:
    if None in paired:
        return False
    for i, name, j in facts.relations:
        a, b = paired[i], paired[j]
        if name == "higher":
            true = a.centre[0] + MARGIN <= b.centre[0]
        elif name == "between":
            others = [paired[k].centre[1] for _, n, k in facts.relations if n == name]
            true = min(others) < a.centre[1] < max(others)
        else:
            true = relation(a, b, MARGIN) == name
        if not true:
            return False
    return True


def same(a: Reading, b: Reading) -> bool:
    """Whether two pictures read alike: ground, and every thing with its look and place."""
    return a.ground == b.ground and _alike(
        [(t.kind, t.colour, t.size, t.centre) for t in a.things], b.things
    )


def shows(reading: Reading, scene: Scene) -> bool:
    """Whether a picture is that scene: ground, and every thing with its look and place."""
    return reading.ground == scene.ground and _alike(
        [(*t.look, t.centre) for t in scene.things], reading.things
    )


def _alike(wanted: Sequence[tuple], seen: Sequence[Read]) -> bool:
    """Whether each of the wanted (kind, colour, size, centre) is seen once, and nothing else."""
    left = list(seen)
    for kind, colour, size, centre in wanted:
        fitting = [
            t
            for t in left
            if (t.kind, t.colour, t.size) == (kind, colour, size) and near(t.centre, centre)
        ]
        if not fitting:
            return False
        left.remove(fitting[0])
    return not left


def near(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether two places are one."""
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= SAME_PLACE


def check_clip(readings: Sequence[Reading], facts: Facts) -> dict[str, bool]:
    """Whether a clip shows what a text states: things, start, direction, ground; "right": all."""
    verdict = {"things": _held(readings, facts)}
    moves = [_moves(readings, facts, move) for move in facts.moves]
    verdict["start"] = all(start for start, _ in moves)
    verdict["direction"] = all(direction for _, direction in moves)
    if facts.ground is not None:
        verdict["ground"] = all(reading.ground == facts.ground for reading in readings)
    return verdict | {"right": all(verdict.values())}


def _held(readings: Sequence[Reading], facts: Facts) -> bool:
    """Whether nearly every frame shows just the things that are stated, in their colours."""
    plain = Facts(tuple(ThingFact(f.kind, f.colour) for f in facts.things))
    return sum(check(reading, plain)["right"] for reading in readings) >= HELD * len(readings)


def _moves(readings: Sequence[Reading], facts: Facts, move) -> tuple[bool, bool]:
    """Whether a thing begins where it is stated to, in its size, and moves as is stated."""
    fact = facts.things[move.index]
    track = [_find(reading, fact) for reading in readings]
    track = [thing for thing in track if thing is not None]
    if len(track) < 2:
        return False, False
    first, last = track[0], track[-1]
    start = fact.size in (None, first.size)
    if move.start is not None:
        start &= third(first.centre[1], readings[0].cols, COLS) == move.start
    down = [thing.centre[0] for thing in track]
    if move.verb in ("grow", "shrink"):
        return start, move.way * (last.side - first.side) >= GROWN
    if move.verb == "go":
        across = [thing.centre[1] for thing in track]
        turned = max(across, key=lambda x: move.way * x)
        return start, move.way * (turned - across[0]) >= MOVED
    far = max(down, key=lambda y: move.way * y)
    moved = move.way * (far - down[0]) >= MOVED
    if move.verb == "bounce":
        moved &= move.way * (far - down[-1]) >= MOVED
    return start, moved


def _find(reading: Reading, fact: ThingFact) -> Read | None:
    looks = [t for t in reading.things if t.kind == fact.kind]
    looks = [t for t in looks if fact.colour in (None, t.colour)]
    return looks[0] if looks else None


def follows(readings: Sequence[Reading], moments: Sequence[Scene]) -> bool:
    """Whether frames are those between `moments`, of which the first was before the frames."""
    for number, reading in enumerate(readings):
        before, now = moments[number // FRAMES], moments[number // FRAMES + 1]
        share = (number % FRAMES + 1) / FRAMES
        pairs = zip(before.things, now.things)
        if not all(_there(reading, a, b, share) for a, b in pairs):
            return False
        if len(reading.things) != len(now.things):
            return False
    return True


def _there(reading: Reading, before: Thing, now: Thing, share: float) -> bool:
    placed = between(before, now, share)
    centre = ((placed.top + placed.side / 2) / CELL, (placed.left + placed.side / 2) / CELL)
    return any(
        (t.kind, t.colour) == (now.kind, now.colour) and near(t.centre, centre)
        for t in reading.things
    )
