"""Draw scenes, encode them and write feature folders: `python -m train.prepare_scene_data`.

Writes OUTPUT/t2i (captions), OUTPUT/vqa (questions and answers) and OUTPUT/text (descriptions in
one language, wanted in the other), each with a list per split. A run that was stopped goes on where
it left off.
"""

if not __package__:  # started by its path
    import by_path

    by_path.run_as_module(__file__)

from pathlib import Path

from emu3.cli.shell import command, leave
from emu3.errors import InputError
from emu3.files import read_json, write_json
from train.data.folders import owned_folder
from train.mini.options import SCENE_TASKS, SceneOptions


def run(options: SceneOptions) -> None:
    """Claim the folder, then prepare on this machine's CPU."""
    with owned_folder(options.output, "--output") as output:
        claim(options, output)
        from emu3 import runtime
        from train.mini.scene_features import prepare

        runtime.setup(device="CPU", mode="graph", seed=options.seed)
        prepare(options)


def claim(options: SceneOptions, output: Path) -> None:
    """Note in the output folder what its scenes are drawn with.

    Raises:
        InputError: it holds scenes that were drawn otherwise.
    """
    ours = {name: getattr(options, name) for name in ("new", "codes", "wordings", "seed")}
    path = output / "scenes.json"
    if path.exists() and read_json(path, "change --output") == ours:
        return
    if path.exists() or any((output / task).exists() for task in SCENE_TASKS):
        raise InputError(
            f"{output} holds scenes that were drawn with other options than {ours}; allowed: the "
            "same ones, or another folder; change --output"
        )
    write_json(path, ours)


build_parser, main = command(
    "train.prepare_scene_data",
    "Draw scenes, encode them and write feature folders.",
    SceneOptions,
    run,
)

if __name__ == "__main__":
    leave(main())
