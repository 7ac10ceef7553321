#!/usr/bin/env bash
# The page and the server in a real browser and with real clients. Arguments go to pytest. Needs
# Chromium (Debian's package chromium; CHROMIUM names another).
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python web dev web-tests
cd "$ROOT"
"$PYTHON" -m pytest tests/web "$@"
