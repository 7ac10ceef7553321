#!/usr/bin/env bash
# Fine-tune on edits and conversations. Without arguments: emu3-mini on a few bundled records, 2 processes on CPU.
# Environment: NPROC, CONFIG, DATA (a feature folder), OUTPUT. Arguments go to train.train_seq_parallel.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/fine_tune.sh"
emu3_fine_tune edit outputs/features/interleaved \
    "train.prepare_interleaved_data --output-path outputs/features/interleaved" "$@"
