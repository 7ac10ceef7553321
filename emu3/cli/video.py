"""Clips from text, or behind given frames: `python -m emu3.cli.video --prompt "a car drives by"`.

A clip's codes are in an .npz file from its first row on; when it is made its frames follow, and one
animation of them. What Ctrl-C cuts short goes on with --resume as it would have.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from emu3.cli import options as shared
from emu3.cli import shell
from emu3.cli.decode import frames as decoded
from emu3.cli.outputs import (
    Progress,
    Stopwatch,
    beside,
    new_file,
    resume_message,
    save_picture,
    with_prompts,
    write_animation,
    write_frames,
)
from emu3.cli.reels import Reel, asked, begun, stored_settings
from emu3.cli.room import chosen_weights, stored_as, width_of
from emu3.codesfile import Codes
from emu3.errors import InputError
from emu3.files import own_folder
from emu3.films import ClipOptions, TextToVideo
from emu3.images import FrameSource
from emu3.loading import load_models, read_configs
from emu3.mllm.generation.events import CandidateRow, ChoicePart, PrefillPart, RowDone
from emu3.options import group, non_negative_int, option, path_text, words
from emu3.pipeline import DrawSettings, PictureSize

SECONDS_BETWEEN_SAVES = 10.0


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    prompt: list[str] | None = option(
        "what happens; may be given several times (default: the checkpoint's example, none behind "
        "a clip)",
        None,
        words,
    )
    extend: str | None = option(
        "a clip to go on with: a folder of frames, an animation or a video file (default: none)",
        None,
        path_text,
        metavar="PATH",
    )
    resume: str | None = option(
        "the .npz of a clip that was cut short, to go on with; all else is as it was "
        "(default: none)",
        None,
        path_text,
        metavar="FILE",
    )
    clip: ClipOptions = group()
    settings: DrawSettings = group()
    size: PictureSize = group()
    seed: int = shared.seed()
    output: str = option(
        "folder for codes and frames, numbered clip_0000 ...",
        "outputs",
        path_text,
        metavar="FOLDER",
    )
    preview: int = option(
        "show the frame under way every so many rows, 0 for never", 0, non_negative_int
    )
    animation: str = shared.animation()
    weights: str | None = shared.weights()
    device: shared.Device = group()

    def __post_init__(self) -> None:
        shared.require_animation(self.animation)
        given = [self.clip, self.settings, self.size]
        own = given == [ClipOptions(), DrawSettings(), PictureSize()]
        if self.resume and (self.prompt or self.extend or not own):
            raise InputError(
                "--resume takes prompt, clip, size and settings from its file; leave them out"
            )
        if self.extend:
            if len(self.prompt or []) > 1:
                raise InputError(
                    "--extend goes on with one clip; allowed: one --prompt; leave some out"
                )
            if self.size != PictureSize():
                raise InputError("--extend has its clip's size; leave ratio, area and sides out")
            FrameSource.is_clip(self.extend, "--extend")  # refuses paths that lead to nothing


def run(options: Options) -> None:
    """Make every clip."""
    content = Codes.load(options.resume) if options.resume else None
    place = Path(options.resume).parent if options.resume else options.output
    folder, device = own_folder(place), options.device
    device.start()
    from emu3 import runtime
    from emu3.mllm.defaults import CheckpointDefaults

    checkpoint = CheckpointDefaults.from_pretrained(options.model)
    settings = (
        options.settings.filled(checkpoint)
        if content is None
        else stored_settings(content, options)
    )
    shared.notice_if_lossy(settings.scheme)
    shared.notice_if_far(options.settings, checkpoint)
    shared.notice_of_clips(checkpoint)
    shared.notice_of_words(options.prompt or [], checkpoint)
    vision = read_configs(options.model, options.vq_model)[1]
    if content is None:
        for said in options.clip.notices(vision.temporal_downsample_factor):
            runtime.notice(said)
    grids, weights = [], options.weights
    if content is not None:
        weights = weights or content.settings.get("weights")
    elif options.extend is None:
        grids, weights = plan(options, settings, checkpoint, vision)
    models = load_models(
        options.model, options.vq_model, device.dtype, device.attn_implementation, weights
    )
    films = [begun(content, options)] if content else list(asked(options, models, grids))
    filming = TextToVideo(models.model, models.prompts)
    for reel in films:
        require_room(models, device, filming.check(reel.film, settings))
    studio = Studio(options, settings, filming, models, folder)
    watch = Stopwatch()
    with Progress(sum(reel.rows_left for reel in films)) as progress:
        for number, reel in enumerate(films):
            studio.make(reel, progress, [left.film.prompt for left in films[number + 1 :]])
    for line in with_prompts(studio.finished, [reel.film.prompt for reel in films]):
        print(line)
    print(watch.closing_line(f"{len(films)} clip(s)", progress.speed))


def require_room(models, device, request) -> None:
    """Refuse a clip whose first piece, all that it follows from counted, memory cannot hold.

    Raises:
        InputError: gives the estimate.
    """
    from emu3 import runtime
    from emu3.estimate import Work, check_fits, estimate

    frames, *grid = request.grid.shape(0)
    row = request.grid.vocabulary.row_start(*grid, grid[0])
    work = Work(
        best_of=request.settings.best_of,
        guided=request.rows.guided,
        prompt=request.rows.longest,
        grid=tuple(grid),
        frames=frames - int(request.grid.done[0]) // row,
        scheme=request.settings.scheme,
        width=width_of(device.dtype),
        **stored_as(models.model.weights),
    )
    configs = models.model.config, models.codec.config
    available = runtime.available_memory_bytes()
    if available is not None:
        available += estimate(*configs, work).weights  # which are there already
    check_fits(*configs, work, available, "--frames, --piece or --model")


def plan(
    options: Options, settings: DrawSettings, checkpoint, vision
) -> tuple[list[tuple[int, int]], str | None]:
    """The grid of each clip of a prompt, and the form for the model's matrices, before anything is
    loaded.

    Raises:
        InputError: sizes that do not fit, or more memory than there is.
    """
    from emu3.estimate import Work

    prompts = options.prompt or [checkpoint.video_prompt]
    factor = vision.spatial_scale_factor
    grids = options.size.grids(len(prompts), checkpoint.image_area, factor)
    shared.notice_if_snapped(options.size, factor)
    config, _ = read_configs(options.model, options.vq_model)
    frames = options.clip.most_frames(checkpoint)
    work = Work(
        best_of=settings.best_of,
        guided=settings.guidance != 1,
        grid=max(grids, key=math.prod),
        frames=-(-frames // vision.temporal_downsample_factor),
        scheme=settings.scheme,
        width=width_of(options.device.dtype),
    )
    flags = "--frames or --model"
    return grids, chosen_weights(config, vision, work, options.weights, flags)


class Studio:
    """How clips become files: codes row by row, saved, then frames and an animation."""

    def __init__(
        self, options: Options, settings: DrawSettings, filming: TextToVideo, models, folder: Path
    ) -> None:
        self.options, self.settings, self.filming = options, settings, filming
        self.codec, self.folder, self.weights = models.codec, folder, models.model.weights
        self.saved_at = monotonic()
        self.finished: list[Path] = []

    def make(self, reel: Reel, progress: Progress, waiting: list[str]) -> None:
        """Make one clip: codes first, then frames; `waiting` are the prompts of those behind it.

        Raises:
            shell.Interrupted: after Ctrl-C, once the codes are saved; says how to go on.
        """
        reel.settings |= {"draw": vars(self.settings), "weights": self.weights}
        if reel.path is None:
            reel.path = new_file(self.folder, "clip", ".npz", reel.save_codes)
        try:
            self._sample(reel, progress)
            reel.save_codes()
            self._write_frames(reel)
        except BaseException as error:
            reel.preview_path.unlink(missing_ok=True)
            reel.save_codes()
            if not isinstance(error, KeyboardInterrupt):
                raise
            models = self.options.model, self.options.vq_model
            begun = resume_message(reel.path, *models, self.options.animation)
            raise shell.Interrupted(beside(begun, self.finished, waiting)) from None

    def _sample(self, reel: Reel, progress: Progress) -> None:
        """Fill in the codes, row by row."""
        made = reel.made.copy() if len(reel.made) else None
        shown = reel.codes.copy()
        for event in self.filming.run(reel.film, self.settings, self.options.device.jit, made):
            if isinstance(event, PrefillPart | ChoicePart):
                progress.show(event)
            if not isinstance(event, CandidateRow | RowDone):
                continue
            # A candidate's rows are shown, not kept: who goes on must not take them for the best.
            codes = shown if isinstance(event, CandidateRow) else reel.codes
            codes[event.frame, event.row] = event.codes
            progress.row(event)
            if monotonic() - self.saved_at > SECONDS_BETWEEN_SAVES:
                reel.save_codes()
                self.saved_at = monotonic()
            every = self.options.preview
            if every and not event.again and (event.row + 1) % every == 0:
                picture = self.codec.picture(codes[event.frame])
                save_picture(picture, {"frame": event.frame}, reel.preview_path)

    def _write_frames(self, reel: Reel) -> None:
        """Write the frames as pictures, and the animation of them."""
        target = reel.path.with_suffix("")
        target.mkdir(exist_ok=True)
        shots = decoded(self.codec, Codes(reel.codes, reel.settings))
        files = [file for file, _ in write_frames(target, shots, reel.settings)]
        kind, fps = self.options.animation, reel.film.fps
        animation = write_animation(files, target, kind, fps)
        reel.preview_path.unlink(missing_ok=True)
        self.finished.append(animation or target)


build_parser, main = shell.command(
    "emu3.cli.video",
    "Make clips from text, or go on with one. The released checkpoints never saw clips.",
    Options,
    run,
)

if __name__ == "__main__":
    shell.leave(main())
