#!/usr/bin/env bash
# Fine-tune on captioned images. Without arguments: emu3-mini on drawn scenes, 2 processes on CPU.
# Environment: NPROC, CONFIG, DATA (a feature folder), OUTPUT. Arguments go to train.train_seq_parallel.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
emu3_find_python training
cd "$ROOT"
NPROC="${NPROC:-2}"
CONFIG="${CONFIG:-configs/mini_t2i_sft.yaml}"
OUTPUT="${OUTPUT:-outputs/t2i_sft}"
if [ -z "${DATA:-}" ]; then
    DATA=outputs/new_scenes/t2i
    "$PYTHON" -m train.prepare_scene_data --output outputs/new_scenes --new --scenes 6000
fi
HELD_BACK=()
if [ -e "$DATA/list/test.json" ]; then HELD_BACK=(--eval_data_path "$DATA"); fi
exec "$PYTHON" -m train.launch -n "$NPROC" --logs "$OUTPUT/logs" train.train_seq_parallel \
    --config "$CONFIG" --train_data_path "$DATA" ${HELD_BACK[@]+"${HELD_BACK[@]}"} \
    --output_dir "$OUTPUT" "$@"
