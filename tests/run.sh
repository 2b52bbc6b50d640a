#!/bin/sh
# run.sh TEST... -- run each test program or script, add up their last lines "passed P failed F", and end with
# "N passed, N failed".  A program that crashes or prints no such line counts as one failure.
# Idle threads sleep: with several programs on few cores, spinning ones only take time from those that work.
export OMP_WAIT_POLICY=passive
good=0 bad=0
for t in "$@"; do
    out=$($t 2>&1); code=$?
    last=$(printf '%s\n' "$out" | tail -n 1)
    printf '%s\n' "$out" | sed '$d'
    case "$last" in
    "passed "*" failed "*)
        set -- $last
        good=$((good + $2)) bad=$((bad + $4))
        printf '%-44s %6d passed %3d failed\n' "$t" "$2" "$4"
        [ $code -ne 0 ] && [ "$4" -eq 0 ] && { bad=$((bad + 1)); echo "$t: exit code $code"; } ;;
    *)  bad=$((bad + 1)); printf '%s\n%s: exit code %s and no tally\n' "$last" "$t" "$code" ;;
    esac
done
echo "$good passed, $bad failed"
[ $bad -eq 0 ]
