#!/usr/bin/env bash
# Fine-tune on questions and answers in words. Without arguments: emu3-mini on drawn scenes, 2 processes on CPU.
# Environment: NPROC, CONFIG, DATA (a feature folder), OUTPUT. Arguments go to train.train_seq_parallel.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/fine_tune.sh"
emu3_fine_tune text outputs/new_scenes/text \
    "train.prepare_scene_data --output outputs/new_scenes --new --tasks text --codes named --scenes 8000" "$@"
