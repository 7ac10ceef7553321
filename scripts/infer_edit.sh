#!/usr/bin/env bash
# Pictures changed as told. Options of `python -m emu3.cli.edit --help` may follow:
#   bash scripts/infer_edit.sh --image a.png --prompt "make the house blue"
# On Ascend DEVICE_ID counts within ASCEND_RT_VISIBLE_DEVICES when that is set.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python
emu3_task emu3.cli.edit "$@"
