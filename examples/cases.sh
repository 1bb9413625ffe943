#!/bin/bash
# A study of many cases from a shell: submits them all, waits, and tells how each ended.
#
#   examples/cases.sh november 50
#
# It may be started again within a day, also after it was interrupted: each case is one job.
set -eu

study=${1:?usage: cases.sh STUDY COUNT}
count=${2:?usage: cases.sh STUDY COUNT}
script=$(cd "$(dirname "$0")" && pwd)/sample_study.sh

jobs=()
for number in $(seq -f %03g 1 "$count"); do
    folder=$PWD/$study/$study-$number
    mkdir -p "$folder"
    key=$(printf %s "$folder" | sha256sum | cut -c 1-64)
    jobs+=("$(hpcq submit -C "$folder" -N "$study-$number" --key "$key" \
        "$script" "$study-$number" 1)")
done
status=0
hpcq wait "${jobs[@]}" || status=$?
hpcq ls --name "$study-*"
exit $status
