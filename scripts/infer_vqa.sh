#!/usr/bin/env bash
# Questions about images. Options of `python -m emu3.cli.vqa --help` may follow:
#   bash scripts/infer_vqa.sh --image photo.png --question "What is in the picture?"
#   MODEL=BAAI/Emu3-Chat VQ_MODEL=BAAI/Emu3-VisionTokenizer bash scripts/infer_vqa.sh
# On Ascend DEVICE_ID counts within ASCEND_RT_VISIBLE_DEVICES when that is set.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python
emu3_task emu3.cli.vqa "$@"
