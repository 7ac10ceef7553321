#!/usr/bin/env bash
# The first thing to run on an Ascend card: operators, tasks, speeds. Send back what it prints.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python
"${RUN[@]}" emu3.cli.ascend_check "$@"
