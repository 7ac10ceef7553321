#!/usr/bin/env bash
# Clips from text, or behind a clip. Options of `python -m emu3.cli.video --help` may follow:
#   bash scripts/infer_video.sh --prompt "a red car drives to the right" --frames 16 --fps 8
#   bash scripts/infer_video.sh --extend clip.mp4 --frames 16 --animation mp4
# On Ascend DEVICE_ID counts within ASCEND_RT_VISIBLE_DEVICES when that is set.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python video
emu3_task emu3.cli.video "$@"
