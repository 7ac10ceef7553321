#!/usr/bin/env bash
# Fine-tune on captioned clips. Without arguments: emu3-mini on a few bundled records, 2 processes on CPU.
# Environment: NPROC, CONFIG, DATA (a feature folder), OUTPUT. Arguments go to train.train_seq_parallel.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/fine_tune.sh"
emu3_fine_tune video outputs/features/video \
    "train.prepare_video_data --output-path outputs/features/video" "$@"
