#!/usr/bin/env bash
# Make emu3-mini from nothing on a CPU: text tokenizer, vision tokenizer, language model, figures.
# Every stage goes on where it was stopped; OUTPUT/progress.html shows how far it is.
# Environment: OUTPUT (outputs/mini), VISION, TALKING, FIGURES (further arguments of a stage),
# ROUND (minutes between two looks, 20).
set -euo pipefail
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/setup_env.sh"
emu3_find_python training
cd "$ROOT"
OUTPUT="${OUTPUT:-outputs/mini}"
ROUND="${ROUND:-20}"
read -r -a vision <<<"${VISION:-}"
read -r -a language <<<"${TALKING:-}"
read -r -a figures <<<"${FIGURES:-}"

# emu3_stage NAME MODULE [ARGUMENT ...]: trains in rounds until OUTPUT/NAME/finished is there.
emu3_stage() {
    local name="$1" module="$2"
    shift 2
    until [ -e "$OUTPUT/$name/finished" ]; do
        "${RUN[@]}" "$module" --output "$OUTPUT/$name" --state "$OUTPUT/$name.safetensors" \
            --minutes "$ROUND" "$@"
        "${RUN[@]}" train.mini.progress --output "$OUTPUT"
    done
}

if [ ! -e "$OUTPUT/tokenizer/tokenizer_config.json" ]; then
    "${RUN[@]}" train.mini.lm.tokenizer --output "$OUTPUT/tokenizer"
fi
emu3_stage vision train.mini.vision ${vision[@]+"${vision[@]}"}
emu3_stage language train.mini.lm --tokenizer "$OUTPUT/tokenizer" --vq-model "$OUTPUT/vision" \
    ${language[@]+"${language[@]}"}
"${RUN[@]}" train.mini.evaluate all --model "$OUTPUT/language" --vq-model "$OUTPUT/vision" \
    --output "$OUTPUT/evaluation.json" ${figures[@]+"${figures[@]}"}
"${RUN[@]}" train.mini.progress --output "$OUTPUT"
echo "$OUTPUT/progress.html"
