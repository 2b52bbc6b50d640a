#!/bin/sh
# golden.sh -- the golden cases in both programs, and proof that a wrong value, a missing one and an unreadable case are
# seen.  Prints failures; the last line is "passed P failed F".
build=${BUILD:-build}
here=$(dirname "$0")/golden
scratch=$build/golden
good=0 bad=0

add() { good=$((good + $1)) bad=$((bad + $2)); }
check() {                                                 # check WHAT CONDITION...
    what=$1; shift
    if "$@"; then add 1 0; else add 0 1; echo "FAIL  golden.sh: $what"; fi
}

for program in "$build/tiller" "$build/tiller64"; do
    out=$("$program" conform "$here"/cases/* "$here/safetensors/manifest.json" 2>&1); code=$?
    last=$(printf '%s\n' "$out" | tail -n 1)
    printf '%s\n' "$out" | grep -v '^PASS' | grep -v '^ .*tensor or check' | sed '$d'
    case "$last" in
    *" passed, "*" failed") set -- $last; add "$1" "$3"; echo "$program: $last" ;;
    *) add 0 1; printf '%s: exit code %s and no tally: %s\n' "$program" $code "$last" ;;
    esac
    check "$program: exit code $code beside \"$last\"" [ $code -eq "$([ "$3" = 0 ] && echo 0 || echo 1)" ]
done

# A copy of a case that needs no model, and the same with one planted fault.
tiller=$build/tiller
fresh() {
    rm -rf "$scratch"
    mkdir -p "$scratch/cases" "$scratch/ours" "$scratch/ours64"
    cp -r "$here/cases/${1:-guid-cfg}" "$scratch/cases/"
    file=$scratch/cases/${1:-guid-cfg}/tensors.safetensors
}
run() { out=$("$tiller" conform "$@" 2>/dev/null); code=$?; last=$(printf '%s\n' "$out" | tail -n 1); }
overwrite() { printf "$1" | dd of="$file" bs=1 seek="$(($(wc -c <"$file") - 4))" conv=notrunc 2>/dev/null; }
flip_lowest_bit() {                                       # of the last number
    low=$(tail -c 4 "$file" | od -An -tu1 -N1)
    printf "\\$(printf %o $((low ^ 1)))" | dd of="$file" bs=1 seek="$(($(wc -c <"$file") - 4))" conv=notrunc 2>/dev/null
}
failures() { [ $code -eq "$1" ] && [ "${last#* passed, }" = "$2 failed" ]; }

fresh; run "$scratch/cases/guid-cfg";                         check "an untouched copy passes" failures 0 0
overwrite '\000\000\310\102'; run "$scratch/cases/guid-cfg";  check "one wrong value is one failure" failures 1 1
overwrite '\000\000\300\177'; run "$scratch/cases/guid-cfg";  check "one NaN is one failure" failures 1 1
fresh; LC_ALL=C sed -i 's/out\.standard\.3/out.stendard.3/' "$file"
run "$scratch/cases/guid-cfg";                                check "a tensor nothing produces is a failure" failures 1 1
fresh; sed -i 's/"guid-cfg"/"guid-cfh"/' "$scratch/cases/guid-cfg/case.json"
run "$scratch/cases/guid-cfg";                                check "an unknown kind is a failure" failures 1 1
fresh; head -c 40 "$here/cases/guid-cfg/case.json" >"$scratch/cases/guid-cfg/case.json"
run "$scratch/cases/guid-cfg" "$here/cases/rng-torch-sequence"
check "an unreadable case gives exit code 3, and the others still run" [ "$code $last" = "3 13 passed, 1 failed" ]
run "$scratch/cases/guid-cfg/nowhere";                        check "a case that is not there gives exit code 3" failures 3 1

fresh rng-torch-sequence; flip_lowest_bit
run "$scratch/cases/rng-torch-sequence";                      check "the lowest bit of one random number is one failure" failures 1 1
fresh sd-ddim-10; sed -i 's/"steps": 10/"steps": 11/' "$scratch/cases/sd-ddim-10/case.json"
run "$scratch/cases/sd-ddim-10";                              check "a parameter is read, not assumed" [ $code -eq 1 ]

# Our values, written by both programs, agree as float32 does and not to the bit.
fresh
"$build/tiller" conform --dump "$scratch/ours" "$scratch/cases/guid-cfg" >/dev/null
"$build/tiller64" conform --dump "$scratch/ours64" "$scratch/cases/guid-cfg" >/dev/null
set -- "$scratch/ours/guid-cfg.safetensors" "$scratch/ours64/guid-cfg.safetensors"
check "what both programs dump is equal as float32" "$tiller" compare "$@" >/dev/null
"$tiller" compare --profile exact "$@" >/dev/null;            check "and not to the bit" [ $? -eq 1 ]
rm -rf "$scratch"

echo "passed $good failed $bad"
[ $bad -eq 0 ]
