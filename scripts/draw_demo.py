"""Draw the bundled demo picture and clip: `python scripts/draw_demo.py` writes into assets/."""

from pathlib import Path

from PIL import Image

from train.mini.world.draw import draw
from train.mini.world.motion import MOMENTS, Moving, frames_of, run
from train.mini.world.scenes import Scene, Thing

ASSETS = Path(__file__).resolve().parent.parent / "assets"
HOUSE = Thing("house", "red", "medium", row=3, col=2)
TREE = Thing("tree", "green", "medium", row=3, col=5)
CAR = Thing("car", "red", "small", row=6, col=5, facing="left")


def main() -> None:
    """Write demo.png and the frames of demo_clip, in which the car drives to the left."""
    draw(Scene(8, 8, "day", (HOUSE,))).save(ASSETS / "demo.png")
    folder = ASSETS / "demo_clip"
    folder.mkdir(exist_ok=True)
    start = Scene(8, 8, "day", (TREE.at(2, 3), CAR))
    for number, frame in enumerate(frames_of(run(start, (Moving(1, "go", -1),), MOMENTS))):
        Image.fromarray(frame).save(folder / f"frame_{number:02d}.png")


if __name__ == "__main__":
    main()
