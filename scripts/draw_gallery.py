"""Draw what the README shows, by the bundled emu3-mini: `python scripts/draw_gallery.py`.

Writes assets/gallery.png and assets/clip.gif, and prints a conversation about the demo picture.
"""

from pathlib import Path

from PIL import Image

import emu3

ASSETS = Path(__file__).resolve().parent.parent / "assets"
PROMPTS = (
    "a red house and a green tree on a sunny day",
    "a yellow sun above an orange boat at sea",
    "three blue stars at night",
    "a large purple butterfly on a meadow",
    "一座绿色的房子和一棵红色的树，雪地里",
    "a white rocket to the left of a yellow moon at night",
)
CLIP = "a red car drives to the left"
SAID = ("What is in the picture?", "Where is the house?", "请描述该图片")
GAP = 4  # pixels between two pictures


def main() -> None:
    """One picture a prompt, side by side; one clip; one conversation."""
    model = emu3.load()
    pictures = [model.draw(prompt, seed=0) for prompt in PROMPTS]
    width, height = pictures[0].size
    sheet = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number * (width + GAP), 0))
    sheet.save(ASSETS / "gallery.png")
    model.film(CLIP, seed=0).save(ASSETS / "clip.gif")
    with Image.open(ASSETS / "demo.png") as demo:
        for question in SAID:
            print(f"{question} -> {model.ask(question, demo)}")


if __name__ == "__main__":
    main()
