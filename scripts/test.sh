#!/usr/bin/env bash
# Set up what is needed, check the style, run the tests. Arguments go to pytest.
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python video training original dev
cd "$ROOT"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
# The web suite has a script and packages of its own: test_web.sh.
"$PYTHON" -m pytest --ignore=tests/web "$@"
