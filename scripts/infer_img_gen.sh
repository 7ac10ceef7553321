#!/usr/bin/env bash
# Text to image. Options of `python -m emu3.cli.img_gen --help` may follow:
#   bash scripts/infer_img_gen.sh --prompt "a yellow sun above a blue boat at sea" --ratio 4:3
#   MODEL=BAAI/Emu3-Gen VQ_MODEL=BAAI/Emu3-VisionTokenizer bash scripts/infer_img_gen.sh
# On Ascend DEVICE_ID counts within ASCEND_RT_VISIBLE_DEVICES when that is set.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python
emu3_task emu3.cli.img_gen "$@"
