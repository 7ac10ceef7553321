"""The Chinese words of captions, questions, answers and descriptions; the shape of english.py."""

import numpy as np

from train.mini.language.english import Rng, any_of, usual
from train.mini.language.facts import OPPOSITE, Facts, ShapeFact
from train.mini.scenes import Ground

COLOURS = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "cyan": "青色",
    "blue": "蓝色",
    "purple": "紫色",
    "black": "黑色",
    "pink": "粉色",
}
KINDS = {
    "circle": ("圆形", "圆"),
    "square": ("正方形", "方形", "方块"),
    "triangle": ("三角形",),
    "diamond": ("菱形",),
    "star": ("星形", "五角星", "星星"),
    "cross": ("十字形", "十字"),
    "heart": ("心形", "爱心"),
}
SIZES = {"small": ("小", "小号"), "medium": ("中等", "中号"), "large": ("大", "大号")}
RELATIONS = {
    "above": ("上方", "上面"),
    "below": ("下方", "下面"),
    "left of": ("左边", "左侧"),
    "right of": ("右边", "右侧"),
}
TONES = {"white": "白色", "cream": "米色", "pale blue": "浅蓝色"}
TEXTURES = {"plain": "纯色", "striped": "条纹", "dotted": "圆点"}
NUMBERS = ("零个", "一个", "两个", "三个")
ZONES = {
    ("top", "left"): ("左上角", "左上方"),
    ("top", "middle"): ("上方",),
    ("top", "right"): ("右上角", "右上方"),
    ("middle", "left"): ("左侧",),
    ("middle", "middle"): ("中央", "中间", "正中间"),
    ("middle", "right"): ("右侧",),
    ("bottom", "left"): ("左下角", "左下方"),
    ("bottom", "middle"): ("下方",),
    ("bottom", "right"): ("右下角", "右下方"),
    ("top", None): ("上方", "顶部"),
    ("bottom", None): ("下方", "底部"),
    (None, "left"): ("左侧", "左边"),
    (None, "right"): ("右侧", "右边"),
}

QUESTIONS = {
    "colour": ("{ref}是什么颜色", "{ref}的颜色是什么", "{ref}是什么颜色的"),
    "shape": ("{object}是什么形状", "{object}的形状是什么", "{object}是什么"),
    "size": ("{ref}是什么大小", "{ref}的大小是什么", "{ref}有多大"),
    "count all": ("图中有几个图形", "一共有几个图形", "图片里有多少个图形", "有几个图形"),
    "count": ("图中有几个{plural}", "有几个{plural}", "图片里有多少个{plural}"),
    "position": ("{ref}在哪里", "{ref}在图中的什么位置", "{ref}位于哪里"),
    "neighbour": ("{ref}的{relation}是什么", "在{ref}{relation}的是什么"),
    "side": ("{ref}在{other}的哪一边", "{ref}在{other}的什么方向"),
    "exists": ("图中有{thing}吗", "有{thing}吗", "图片里有没有{thing}"),
    "is related": ("{ref}在{other}的{relation}吗", "{ref}是不是在{other}的{relation}"),
    "is colour": ("{ref}是{colour}的吗", "{ref}是不是{colour}的"),
    "is kind": ("{object}是{kind}吗", "{object}是不是{kind}"),
    "is size": ("{ref}是{size}的吗", "{ref}是不是{size}的"),
    "is count": ("图中有{number}图形吗", "一共有{number}图形吗"),
    "ground tone": ("背景是什么颜色", "背景的颜色是什么"),
    "ground texture": ("背景是什么图案", "背景的图案是什么"),
    "describe": (
        "请描述该图片",
        "请描述这张图片",
        "描述该图片",
        "请描述图片",
        "图片里有什么",
        "这张图片里有什么",
    ),
}


def phrase(name: str, value: object, rng: Rng = None) -> str:
    """The words for a field of a question or for an answer; without chance, the usual words."""
    return PHRASES[name](value, rng)


def ask(form: str, fields: dict[str, object], rng: np.random.Generator) -> str:
    """A question of the form, with or without a question mark."""
    text = any_of(QUESTIONS[form], rng)
    text = text.format(**{name: phrase(name, value, rng) for name, value in fields.items()})
    command = text.startswith(("请", "描述"))
    return text if command or rng.random() < 0.5 else text + usual(("？", "?"), rng)


def caption(facts: Facts, layout: str, rng: np.random.Generator) -> str:
    """Facts chosen by captions.plan_caption, in words."""
    body = LAYOUTS[layout](facts, rng)
    if facts.ground is not None:
        ground = _ground(facts.ground)
        first = layout != "list" and rng.random() < 0.5
        body = f"{ground}上，{body}" if first else f"{body}，背景是{ground[:-2]}"
    return body + "。" if rng.random() < 0.25 else body


def describe(facts: Facts) -> str:
    """The one full description of a scene."""
    parts = [f"{ZONES[s.row, s.col][0]}是一个{_noun(s, None)}" for s in facts.shapes]
    return f"{_ground(facts.ground)}上有{NUMBERS[facts.count]}图形：{'，'.join(parts)}。"


def _noun(shape: ShapeFact, rng: Rng, generic: str = "图形") -> str:
    kind = usual(KINDS[shape.kind], rng) if shape.kind else generic
    colour = COLOURS[shape.colour] if shape.colour else ""
    size = usual(SIZES[shape.size], rng) if shape.size else ""
    if size and colour:
        ways = (f"{size}的{colour}{kind}", f"{colour}的{size}{kind}", f"{colour}{size}{kind}")
        return usual(ways, rng)
    if size:
        return f"{size}的{kind}"
    if colour:
        return usual((colour + kind, f"{colour}的{kind}"), rng)
    return kind


def _one(shape: ShapeFact, rng: np.random.Generator) -> str:
    return ("一个" if rng.random() < 0.7 else "") + _noun(shape, rng)


def _place(shape: ShapeFact, rng: Rng) -> str:
    return usual(ZONES[shape.row, shape.col], rng)


def _reference(shape: ShapeFact, rng: Rng) -> str:
    noun = _noun(shape, rng)
    return f"{_place(shape, rng)}的{noun}" if shape.row or shape.col else noun


def _ground(ground: Ground) -> str:
    texture = "" if ground.texture == "plain" else TEXTURES[ground.texture]
    return f"{TONES[ground.tone]}{texture}背景"


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else "、".join(parts[:-1]) + "和" + parts[-1]


def _opened(items: str, count: int, rng: np.random.Generator) -> str:
    openings = ["图中有{}", "一张图片，上面有{}", "画{}", "有{}的图片"]
    openings += [NUMBERS[count] + "图形：{}"] * (count > 1)
    return any_of(openings, rng).format(items) if rng.random() < 0.6 else items


def _list(facts: Facts, rng: np.random.Generator) -> str:
    parts = []
    for i, shape in enumerate(facts.shapes):
        alike = facts.shapes.count(shape)
        if alike > 1 and facts.shapes.index(shape) == i:
            parts.append(NUMBERS[alike] + _noun(shape, rng))
        elif alike == 1:
            parts.append(_one(shape, rng))
    return _opened(_join(parts), facts.count, rng)


def _places(facts: Facts, rng: np.random.Generator) -> str:
    way = any_of(("{place}有{one}", "{place}是{one}", "{one}在{place}", "{one}位于{place}"), rng)
    parts = []
    for shape in facts.shapes:
        one = _one(shape, rng)
        placed = shape.row or shape.col
        parts.append(way.format(place=_place(shape, rng), one=one) if placed else f"还有{one}")
    if parts[0].startswith("还有"):
        parts[0] = parts[0].removeprefix("还")
    return "，".join(parts)


def _relation(facts: Facts, rng: np.random.Generator) -> str:
    first, second = (_one(s, rng) for s in facts.shapes[:2])
    name = facts.relations[0][1]
    ways = ("{a}在{b}的{r}", "{a}在{b}{r}", "{a}位于{b}的{r}", "{b}的{r}有{a}", "{a}的{o}有{b}")
    words = {"r": usual(RELATIONS[name], rng), "o": usual(RELATIONS[OPPOSITE[name]], rng)}
    text = usual(ways, rng).format(a=first, b=second, **words)
    for shape in facts.shapes[2:]:
        placed = shape.row or shape.col
        one = _one(shape, rng)
        text += f"，图片{_place(shape, rng)}有{one}" if placed else f"，还有{one}"
    return text


def _chain(facts: Facts, rng: np.random.Generator) -> str:
    first, second, third = (_one(s, rng) for s in facts.shapes)
    one, two = (usual(RELATIONS[name], rng) for _, name, _ in facts.relations)
    return f"{first}在{second}的{one}，在{third}的{two}"


LAYOUTS = {"list": _list, "places": _places, "relation": _relation, "chain": _chain}
PHRASES = {
    "ref": _reference,
    "other": _reference,
    "object": _reference,
    "kind": lambda name, rng: usual(KINDS[name], rng),
    "thing": _noun,
    "plural": _noun,
    "relation": lambda name, rng: usual(RELATIONS[name], rng),
    "side": lambda name, rng: RELATIONS[name][0],
    "colour": lambda name, rng: COLOURS[name],
    "shape": lambda name, rng: usual(KINDS[name], rng),
    "size": lambda name, rng: usual(SIZES[name], rng),
    "number": lambda number, rng: NUMBERS[number],
    "position": lambda place, rng: ZONES[place][0],
    "exists": lambda true, rng: "有" if true else "没有",
    "true": lambda true, rng: "是" if true else "不是",
    "tone": lambda name, rng: TONES[name],
    "texture": lambda name, rng: TEXTURES[name],
    "describe": lambda facts, rng: describe(facts),
}
