"""Pictures changed as told: `python -m emu3.cli.edit --image a.png --prompt "make it blue"`.

The pictures and the words go through the chat template; the answer is a picture, as large as the
last one given unless a size says otherwise.
"""

from dataclasses import dataclass

from emu3.cli import options as shared
from emu3.cli import shell
from emu3.cli.img_gen import Studio, picture_settings
from emu3.cli.outputs import Progress, Stopwatch, with_prompts
from emu3.cli.vqa import encoded
from emu3.errors import InputError
from emu3.files import own_folder
from emu3.images import open_image
from emu3.loading import load_models
from emu3.options import group, non_negative_int, option, path_text, words
from emu3.pipeline import DrawSettings, PictureSize
from emu3.talks import Edit, Edits


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    image: list[str] | None = option(
        "picture to change; several are shown together (default: none, one is needed)",
        None,
        path_text,
        metavar="FILE",
    )
    prompt: list[str] | None = option(
        "what to do; may be given several times (default: none, one is needed)", None, words
    )
    settings: DrawSettings = group(leave_out=("suffix",))
    size: PictureSize = group()
    seed: int = shared.seed()
    output: str = option(
        "folder for pictures and codes, numbered edit_0000 ...",
        "outputs",
        path_text,
        metavar="FOLDER",
    )
    preview: int = option(
        "show the unfinished picture every so many rows, 0 for never", 0, non_negative_int
    )
    weights: str | None = shared.weights()
    device: shared.Device = group()

    def __post_init__(self) -> None:
        for name, value in (("image", self.image), ("prompt", self.prompt)):
            if not value:
                raise InputError(f"no --{name}; allowed: one or more; give --{name}")


def run(options: Options) -> None:
    """Make every edit."""
    images = {path: open_image(path) for path in options.image}
    folder, device = own_folder(options.output), options.device
    device.start()
    from emu3.mllm.defaults import CheckpointDefaults

    checkpoint = CheckpointDefaults.from_pretrained(options.model)
    settings = options.settings.filled(checkpoint)
    shared.notice_if_lossy(settings.scheme)
    shared.notice_if_far(options.settings, checkpoint)
    shared.notice_of_words(options.prompt, checkpoint)
    models = load_models(
        options.model,
        options.vq_model,
        device.dtype,
        device.attn_implementation,
        options.weights,
    )
    codes = [encoded(models.codec, path, images[path], device.dtype) for path in options.image]
    sizes = [codes[-1].shape] * len(options.prompt)
    if options.size != PictureSize():
        factor = models.codec.config.spatial_scale_factor
        sizes = options.size.grids(len(options.prompt), checkpoint.image_area, factor)
        shared.notice_if_snapped(options.size, factor)
    edits = [
        Edit(text, codes, size, options.seed + n)
        for n, (text, size) in enumerate(zip(options.prompt, sizes))
    ]
    editing, watch = Edits(models.model, models.prompts), Stopwatch()
    about = picture_settings(options, settings)
    about["weights"] = models.model.weights
    about["image"] = [shared.public_name(path) for path in options.image]
    studio = Studio(options, about, editing, models.codec, folder, "edit")
    requests = [editing.request([edit], settings, device.jit) for edit in edits]
    with Progress(sum(edit.size[0] for edit in edits)) as progress:
        for edit, request in zip(edits, requests):
            studio.make([edit], request, progress)
    for line in with_prompts(studio.finished, options.prompt):
        print(line)
    print(watch.closing_line(f"{len(edits)} picture(s)", progress.speed))


build_parser, main = shell.command(
    "emu3.cli.edit",
    "Change pictures as told. The released checkpoints never saw edits.",
    Options,
    run,
)

if __name__ == "__main__":
    shell.leave(main())
