#!/usr/bin/env bash
# Fine-tune on captioned clips. Without arguments: emu3-mini on bundled records, 2 processes on CPU.
# Environment: NPROC, CONFIG, DATA (a feature folder), OUTPUT. Arguments go to train.train_seq_parallel.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python training video
cd "$ROOT"
NPROC="${NPROC:-2}"
OUTPUT="${OUTPUT:-outputs/video_sft}"
if [ -z "${CONFIG:-}${DATA:-}" ]; then
    DATA=outputs/features/video
    "${RUN[@]}" train.prepare_video_data --output-path "$DATA"
fi
LISTS=()
if [ -n "${DATA:-}" ]; then LISTS=(--train_data_path "$DATA"); fi
if [ -e "${DATA:-}/list/test.json" ]; then LISTS+=(--eval_data_path "$DATA"); fi
exec "${RUN[@]}" train.launch -n "$NPROC" --logs "$OUTPUT/logs" train.train_seq_parallel \
    --config "${CONFIG:-configs/mini_video_sft.yaml}" ${LISTS[@]+"${LISTS[@]}"} --output_dir "$OUTPUT" "$@"
