"""The Chinese words of captions, questions, answers and edits; the shape of english.py."""

from collections.abc import Sequence

import numpy as np

from train.mini.words.english import Rng, usual
from train.mini.words.facts import ThingFact

COLOURS = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "brown": "棕色",
    "white": "白色",
    "pink": "粉色",
}
# kind -> measure word and names.
KINDS = {
    "house": ("座", ("房子", "房屋")),
    "tree": ("棵", ("树",)),
    "car": ("辆", ("汽车", "车")),
    "boat": ("艘", ("船", "帆船")),
    "sun": ("个", ("太阳",)),
    "moon": ("个", ("月亮",)),
    "cloud": ("朵", ("云", "云朵")),
    "flower": ("朵", ("花", "花朵")),
    "fish": ("条", ("鱼",)),
    "bird": ("只", ("鸟",)),
    "balloon": ("个", ("热气球", "气球")),
    "rocket": ("枚", ("火箭",)),
    "mushroom": ("个", ("蘑菇",)),
    "butterfly": ("只", ("蝴蝶",)),
    "star": ("颗", ("星星", "五角星")),
    "circle": ("个", ("圆形", "圆", "球")),
    "square": ("个", ("正方形", "方块")),
    "triangle": ("个", ("三角形",)),
    "diamond": ("个", ("菱形",)),
    "heart": ("个", ("心形", "爱心")),
}
SIZES = {"small": ("小", "小号"), "medium": ("中等", "中号"), "large": ("大", "大号")}
RELATIONS = {
    "above": ("上方", "上面"),
    "below": ("下方", "下面"),
    "left of": ("左边", "左侧"),
    "right of": ("右边", "右侧"),
}
SIDES = {name: words[0] for name, words in RELATIONS.items()}
GROUNDS = {
    "day": ("白天", "蓝天下"),
    "night": ("夜里", "夜空下"),
    "sea": ("海上", "大海上"),
    "meadow": ("草地上", "草原上"),
    "snow": ("雪地里", "雪地上"),
    "plain": ("纯色背景上", "纯色纸上"),
    "striped": ("条纹背景上",),
    "dotted": ("圆点背景上",),
}
GROUND_NAMES = {"day": "白天", "night": "夜里", "sea": "大海", "meadow": "草地", "snow": "雪地"}
GROUND_NAMES |= {"plain": "纯色", "striped": "条纹", "dotted": "圆点"}
NUMBERS = ("零", "一", "两", "三")
COUNTS = ("零个", "一个", "两个", "三个")
PLACES = {
    ("top", "left"): ("左上角", "左上方"),
    ("top", None): ("上方", "顶部"),
    ("top", "right"): ("右上角", "右上方"),
    (None, "left"): ("左侧", "左边"),
    (None, None): ("中间", "中央"),
    (None, "right"): ("右侧", "右边"),
    ("bottom", "left"): ("左下角", "左下方"),
    ("bottom", None): ("下方", "底部"),
    ("bottom", "right"): ("右下角", "右下方"),
}
VERBS = {
    ("car", "go"): ("开", "行驶"),
    ("boat", "go"): ("航行",),
    ("fish", "go"): ("游",),
    ("bird", "go"): ("飞",),
    ("cloud", "go"): ("飘",),
    "rise": ("升起", "上升"),
    "set": ("下降", "落下去"),
    ("sun", "set"): ("落下", "下山"),
    ("moon", "set"): ("落下", "下山"),
    "fall": ("掉下来", "坠落"),
    "bounce": ("弹跳",),
    "grow": ("变大", "长大"),
    "shrink": ("变小", "缩小"),
}
WAYS = {-1: ("向左",), 1: ("向右",)}
STARTS = {"left": "从左边", "middle": "从中间", "right": "从右边"}
BESIDE = {"past": ("经过{0}",), "over": ("在{0}上空",), "with": ("在{0}旁边",)}
OPENINGS = ("一张图片：", "画", "图中有", "请画")
CLIP_OPENINGS = ("一段视频：", "视频里，")
NEXT = {
    "go": "它继续{way}{verb}",
    "turn": "它掉头{way}{verb}",
    "on": "它继续{verb}",
    "rest": "它停在那里",
    "up": "它又上升",
    "down": "它又下降",
    "bounce": "它弹起来",
    "same": "它保持不变",
}
QUESTIONS = {
    "colour": ("{ref}是什么颜色", "{ref}的颜色是什么", "{ref}是什么颜色的"),
    "what": ("图中有什么", "你看到了什么", "这是什么"),
    "what at": ("{place}是什么", "{place}有什么"),
    "size": ("{ref}有多大", "{ref}是什么大小"),
    "count all": ("图中有几样东西", "一共有几样东西"),
    "count": ("图中有几{plural}", "有几{plural}"),
    "where": ("{ref}在哪里", "{ref}在图中的什么位置"),
    "relation": ("{ref}在{other}的哪一边", "{ref}在{other}的什么方向"),
    "exists": ("图中有{thing}吗", "有没有{thing}"),
    "ground": ("背景是什么", "这是在哪里"),
    "describe": ("请描述该图片", "请描述这张图片", "描述该图片", "请描述图片"),
    "what moves": ("什么在动", "哪样东西在动"),
    "which way": ("{ref}朝哪个方向动", "{ref}往哪边动"),
    "does": ("{ref}在做什么", "{ref}怎么动"),
    "next": ("接下来会发生什么", "然后会怎样"),
    "end": ("{ref}最后在哪里", "{ref}最后到了哪里"),
    "describe clip": ("请描述这段视频", "描述该视频", "这里发生了什么"),
}
EDITS = {
    "recolour": ("把{ref}变成{colour}", "把{ref}改成{colour}", "把{ref}涂成{colour}"),
    "move": ("把{ref}{way}移", "把{ref}{way}移动"),
    "add": ("加上{thing}", "再画{thing}"),
    "remove": ("去掉{ref}", "删除{ref}"),
    "ground": ("把背景换成{ground}", "背景改为{ground}"),
    "resize": ("把{ref}变{size}", "把{ref}改{size}"),
}
MOVES = {"left": "向左", "right": "向右", "up": "向上", "down": "向下"}
YES, NO = "是", "否"


def noun(fact: ThingFact, rng: Rng = None) -> str:
    """Size, colour and kind."""
    size = usual(SIZES[fact.size], rng) if fact.size else ""
    colour = COLOURS[fact.colour] + "的" if fact.colour else ""
    if size:
        size += "" if size in ("小", "大") and not colour else "的"
    return size + colour + usual(KINDS[fact.kind][1], rng)


def many(count: int, fact: ThingFact, rng: Rng = None) -> str:
    """So many alike."""
    return NUMBERS[count] + KINDS[fact.kind][0] + noun(fact, rng)


def thing(fact: ThingFact, rng: Rng = None) -> str:
    """With number and measure word."""
    return many(1, fact, rng)


def counted(fact: ThingFact, rng: Rng = None) -> str:
    """Alike things whose number is asked."""
    return KINDS[fact.kind][0] + noun(fact, rng)


def the(fact: ThingFact, rng: Rng = None) -> str:
    """One that is known."""
    return noun(fact, rng)


def place(row: str | None, col: str | None, rng: Rng = None) -> str:
    """Where."""
    row, col = (None if word == "middle" else word for word in (row, col))
    return usual(PLACES[row, col], rng)


def joined(parts: Sequence[str]) -> str:
    """A list."""
    return parts[0] if len(parts) == 1 else "、".join(parts[:-1]) + "和" + parts[-1]


def in_a_row(words: str) -> str:
    """Alike things side by side."""
    return f"{words}排成一排"


def placed(words: str, where: str) -> str:
    """A thing and its place."""
    return f"{where}有{words}"


def related(a: str, name: str, b: str, rng: Rng = None) -> str:
    """One thing relative to others."""
    return f"{a}在{b}的{usual(RELATIONS[name], rng)}"


def between(a: str, b: str, c: str) -> str:
    """The first between the others."""
    return f"{a}在{b}和{c}之间"


def on_ground(words: str, ground: str, rng: Rng = None) -> str:
    """What is said, and where that is."""
    where = usual(GROUNDS[ground], rng)
    if rng is not None and rng.random() < 0.3:
        return f"{words}，在{where}"
    return f"在{where}，{words}"


def verb(kind: str, name: str, rng: Rng = None) -> str:
    """What a thing does."""
    return usual(VERBS.get((kind, name)) or VERBS[name], rng)


def moving(words: str, kind: str, name: str, way: int, start: str | None, rng: Rng = None) -> str:
    """A thing that moves."""
    begun = STARTS[start] if start else ""
    return words + begun + (WAYS[way][0] if name == "go" else "") + verb(kind, name, rng)


def beside(words: str, how: str, other: str, rng: Rng = None) -> str:
    """What moves, and what stands there."""
    return f"{words}，{usual(BESIDE[how], rng).format(other)}"


def both(first: str, second: str) -> str:
    """Two that move."""
    return f"{first}，{second}"


def after(form: str, kind: str, name: str, way: int) -> str:
    """What happens next, as a sentence."""
    return NEXT[form].format(verb=verb(kind, name), way=WAYS[way][0]) + "。"


def polished(text: str, rng: np.random.Generator, clip: bool = False) -> str:
    """With an opening or a full stop, as people write."""
    if text[0] in NUMBERS and rng.random() < 0.3:
        openings = CLIP_OPENINGS if clip else OPENINGS
        text = openings[rng.integers(len(openings))] + text
    return text + "。" if rng.random() < 0.25 else text


def question(form: str, rng: np.random.Generator, **fields: str) -> str:
    """A question, with or without its mark."""
    text = usual(QUESTIONS[form], rng).format(**fields)
    if form.startswith("describe"):
        return text
    return text + "？" if rng.random() < 0.7 else text


def edit(form: str, rng: np.random.Generator, **fields: str) -> str:
    """What is to be changed."""
    return usual(EDITS[form], rng).format(**fields)


def sentence(text: str) -> str:
    """An answer of a whole sentence."""
    return text + "。"
