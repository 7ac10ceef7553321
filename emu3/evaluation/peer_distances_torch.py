"""The other end of `emu3.evaluation.distances`: FOLDER FOLDER to one line of JSON.

Runs by its path in a Python that has torch; imports nothing of this project.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path


def main(first: str, second: str) -> None:
    """Print rFID of both folders and the mean LPIPS of pictures of the same names."""
    import torch
    from torch_fidelity import KEY_METRIC_FID, calculate_metrics

    cuda = torch.cuda.is_available()
    fid = calculate_metrics(
        input1=second, input2=first, fid=True, cuda=cuda, samples_find_deep=True, verbose=False
    )[KEY_METRIC_FID]
    found = {"rfid": float(fid), "lpips": mean_lpips(Path(first), Path(second))}
    names = ("torch", "torch-fidelity", "lpips")
    print(json.dumps(found | {"about": ", ".join(f"{name} {version(name)}" for name in names)}))


def mean_lpips(first: Path, second: Path) -> float:
    """The mean over all pictures of `first` of their LPIPS to those of the same names."""
    import lpips
    import torch

    network = lpips.LPIPS(net="alex", verbose=False)
    values = []
    with torch.no_grad():
        for path in sorted(first.rglob("*.png")):
            pair = [pixels(file) for file in (path, second / path.relative_to(first))]
            values.append(float(network(*pair)))
    return sum(values) / len(values)


def pixels(path: Path):
    """A picture as torch float32 (1, 3, h, w) from -1 to 1."""
    import numpy as np
    import torch
    from PIL import Image

    array = np.asarray(Image.open(path).convert("RGB"), np.float32)
    return torch.from_numpy(array.transpose(2, 0, 1)[None] / 127.5 - 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
