"""Draw the bundled demo picture and clip: `python scripts/draw_demo.py` writes into assets/."""

from dataclasses import replace
from pathlib import Path

from train.mini.drawing import draw
from train.mini.scenes import Ground, Scene, Shape

ASSETS = Path(__file__).resolve().parent.parent / "assets"
SCENE = Scene(
    rows=7,
    cols=7,
    ground=Ground("cream", "plain"),
    shapes=(
        Shape("circle", "red", "large", row=0, col=0),
        Shape("star", "blue", "medium", row=1, col=5),
        Shape("square", "green", "medium", row=4, col=3),
    ),
)
FRAMES = 16
FRAMES_A_STEP = 4  # the square rests this long on each cell


def main() -> None:
    """Write demo.png and the frames of demo_clip, in which the square moves to the right."""
    draw(SCENE).save(ASSETS / "demo.png")
    folder = ASSETS / "demo_clip"
    folder.mkdir(exist_ok=True)
    still, square = SCENE.shapes[:2], SCENE.shapes[2]
    for number in range(FRAMES):
        moved = replace(square, col=1 + number // FRAMES_A_STEP)
        draw(replace(SCENE, shapes=(*still, moved))).save(folder / f"frame_{number:02d}.png")


if __name__ == "__main__":
    main()
