"""Evaluations: `python -m emu3.cli.evaluate geneval --prompts evaluation_metadata.jsonl`.

Pictures of GenEval, DPG-Bench and MJHQ-30K are drawn and laid out as those suites expect;
reconstruction and answers are scored here. The same command goes on where it was stopped.
"""

from functools import partial

from emu3.cli import shell
from emu3.evaluation import answering, drawing, rebuilding

SUBJECTS = {
    "geneval": shell.Subject(
        "draw pictures for GenEval", drawing.Options, partial(drawing.run, "geneval")
    ),
    "dpg": shell.Subject(
        "draw pictures for DPG-Bench", drawing.Options, partial(drawing.run, "dpg")
    ),
    "mjhq": shell.Subject(
        "draw pictures for MJHQ-30K", drawing.Options, partial(drawing.run, "mjhq")
    ),
    "reconstruction": shell.Subject(
        "rebuild pictures: PSNR, SSIM, rFID, LPIPS", rebuilding.Options, rebuilding.run
    ),
    "vqa": shell.Subject("answer questions: accuracy", answering.Options, answering.run),
}

build_parser, main = shell.command_of("emu3.cli.evaluate", "Evaluate a model.", "", SUBJECTS)

if __name__ == "__main__":
    shell.leave(main())
