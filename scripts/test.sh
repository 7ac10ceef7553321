#!/usr/bin/env bash
# Set up what is needed, check the style, run the tests (two processes at once; with arguments,
# which go to pytest, one).
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python video training original dev
cd "$ROOT"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" scripts/run_tests.py "$@"
