#!/bin/bash
# A stand-in for a planning model: it iterates until two bounds meet, uses a CPU and a growing
# amount of memory meanwhile, tells its progress and leaves its results beside it.
#
#   sample_study.sh CASE ITERATIONS
#
# Written to the working directory: CASE.csv, one line per iteration; CASE.txt, the result.
set -eu

case_name=${1:?usage: sample_study.sh CASE ITERATIONS}
iterations=${2:?usage: sample_study.sh CASE ITERATIONS}
megabytes_per_iteration=12

# One iteration works for about as long on a slow machine as on a fast one.
work_for_a_second() {
    local until=$((SECONDS + 1)) sum=0 i
    while ((SECONDS < until)); do
        for ((i = 0; i < 2000; i++)); do sum=$(((sum * 31 + i) % 1000003)); done
    done
}

echo "case $case_name on $(uname -n), $iterations iterations"
echo "iteration,lower_bound,upper_bound" >"$case_name.csv"
lower=1000 upper=9000 cut="" cuts=""
for ((n = 1; n <= iterations; n++)); do
    work_for_a_second
    printf -v cut '%*s' $((megabytes_per_iteration * 1000000)) ''
    cuts+=$cut
    lower=$((lower + (upper - lower) / 3)) upper=$((upper - (upper - lower) / 4))
    echo "$n,$lower,$upper" >>"$case_name.csv"
    echo "iteration $n of $iterations: cost between $lower and $upper"
done
printf 'case %s\nexpected cost %d\niterations %d\n' "$case_name" $(((lower + upper) / 2)) \
    "$iterations" >"$case_name.txt"
echo "converged; the result is in $case_name.txt"
