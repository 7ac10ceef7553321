"""Colours and sizes of the world, and what the language model is left to learn later."""

CELL = 16  # pixels along a side of what one code covers

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (224, 52, 56),
    "orange": (248, 142, 30),
    "yellow": (252, 208, 40),
    "green": (56, 158, 76),
    "blue": (48, 104, 222),
    "purple": (146, 76, 196),
    "brown": (142, 92, 56),
    "white": (250, 250, 252),
    "pink": (248, 132, 188),
}
# Side of a thing's box in cells.
SIZES = {"small": 2, "medium": 3, "large": 4}

# The vision tokenizer knows this colour and kind; the language model learns them by fine-tuning.
NEW_COLOUR, NEW_KIND = "pink", "heart"
BASE_COLOURS = tuple(name for name in COLOURS if name != NEW_COLOUR)


def mixed(colour: Rgb, other: Rgb, share: float) -> Rgb:
    """`colour` with `share` of `other`."""
    return tuple(round(a + (b - a) * share) for a, b in zip(colour, other))


def light(colour: Rgb) -> Rgb:
    """What of a thing the light falls on."""
    return mixed(colour, (255, 255, 255), 0.45)


def dark(colour: Rgb) -> Rgb:
    """Outlines and what lies in the shade; of white a blue grey, so that it shows on snow."""
    if min(colour) > 230:
        return (104, 120, 158)
    return mixed(colour, (24, 20, 52), 0.42)
