#!/usr/bin/env bash
# The web page, at http://127.0.0.1:8000. Options of `python -m emu3.cli.web --help` may follow:
#   bash scripts/web.sh --port 8080
#   MODEL=BAAI/Emu3-Gen VQ_MODEL=BAAI/Emu3-VisionTokenizer bash scripts/web.sh
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python web
emu3_task emu3.cli.web "$@"
