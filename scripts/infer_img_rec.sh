#!/usr/bin/env bash
# Images and clips to codes and back. Options of `python -m emu3.cli.img_rec --help` may follow:
#   bash scripts/infer_img_rec.sh --input photo.png --input clip.mp4
#   VQ_MODEL=BAAI/Emu3-VisionTokenizer bash scripts/infer_img_rec.sh --input frames/
# On Ascend DEVICE_ID counts within ASCEND_RT_VISIBLE_DEVICES when that is set.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python video
export DEVICE_ID="${DEVICE_ID:-0}"
VQ_MODEL="${VQ_MODEL:-$ROOT/assets/emu3-mini/vision}"
exec "${RUN[@]}" emu3.cli.img_rec --vq-model "$VQ_MODEL" "$@"
