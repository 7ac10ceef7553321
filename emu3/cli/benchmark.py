"""Benchmarks: `python -m emu3.cli.benchmark decode [--peer torch]`, and so for each subject.

Times are medians of repeats after one that is not counted. A peer runs in a process of its own, in
turns with ours, so that both see the same machine: read the ratio, not the seconds.
"""

from emu3.benchmarks import clips, decode, pictures, prefill, serving, vision
from emu3.cli import shell

SUBJECTS = {
    "decode": shell.Subject(
        "decoding steps of a net with random weights", decode.DecodeOptions, decode.run_decode
    ),
    "prefill": shell.Subject("prompts into the cache", prefill.PrefillOptions, prefill.run_prefill),
    "t2i": shell.Subject(
        "whole pictures by batch size", pictures.PictureOptions, pictures.run_pictures
    ),
    "t2v": shell.Subject("whole clips", clips.Options, clips.run),
    "vqa": shell.Subject("answers by batch size", pictures.AnswerOptions, pictures.run_answers),
    "vq-image": shell.Subject("a picture to codes and back", vision.Options, vision.run_image),
    "vq-clip": shell.Subject(
        "a clip of 4 frames to codes and back", vision.Options, vision.run_clip
    ),
    "serve": shell.Subject(
        "the HTTP server, many clients against one", serving.Options, serving.run_serving
    ),
    "startup": shell.Subject(
        "a fresh process up to its first token", pictures.StartupOptions, pictures.run_startup
    ),
}

build_parser, main = shell.command_of("emu3.cli.benchmark", "Measure speed.", "measure", SUBJECTS)

if __name__ == "__main__":
    shell.leave(main())
