#!/bin/sh
# lessons.sh -- the teaching documents against what they are about: code shown is the code that runs, output shown is the
# program's, and the example does what its document says.  BUILD and TILLER as in run.sh.  Ends with "passed P failed F".
build=${BUILD:-build}
tiller=${TILLER:-$build/tiller}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
good=0 bad=0
check() { # NAME COMMAND...
    name=$1; shift
    if "$@" >"$work/said" 2>&1; then good=$((good + 1)); else bad=$((bad + 1)); echo "$name: FAILED"; head -n 8 "$work/said"; fi
}
own=docs/your-own-energy.md

# the first code block after the file's name is the file
awk '/^`docs\/examples\/half.c`$/ { on = 1; next } on && /^```c$/ { show = 1; next } show && /^```$/ { exit } show' $own >"$work/shown.c"
check 'the energy shown is the energy that runs' diff "$work/shown.c" docs/examples/half.c
check 'at most 40 lines' sh -c '[ $(wc -l <docs/examples/half.c) -le 40 ]'
awk '/^```c$/ { n++; next } /^```$/ { if (n == 2) exit; next } n == 2' $own | sed 's/^/        /' >"$work/method.c"
check 'the method shown is in half_run.c' sh -c "sed -n '/Half half = {/,/g.part\\[g.parts++\\]/p' docs/examples/half_run.c | diff - $work/method.c"

# output shown: a line "$ tiller ..." in a block, and below it what it prints
for doc in docs/lessons/*.md; do
    awk -v out="$work/c" '/^```console$/ { n++; file = out n; next } /^```$/ { file = ""; next } file { print >file }' "$doc"
    for block in "$work"/c[0-9]*; do
        [ -f "$block" ] || continue
        command=$(sed -n '1s/^\$ build\/tiller //p' "$block")
        sed 1d "$block" >"$work/wanted"
        eval "$tiller $command" >"$work/found" 2>/dev/null
        check "$doc: $command" diff "$work/wanted" "$work/found"
        rm "$block"
    done
done

# the example: the energies of the document's first rows, and lower at every one of them than without guidance
energies() { "$build/f32/docs/examples/half_run" car "$1" 25 "$work/v$1.png" | awk '$1 < 15 && $1 ~ /^[0-9]/ { print $1, $3, $5 }'; }
energies 0 >"$work/v0"; energies 10 >"$work/v10"; energies 30 >"$work/v30"
check 'fifteen guided steps' sh -c "[ \$(wc -l <$work/v10) -eq 15 ]"
check 'the energy is lower under guidance, and lower still under more' sh -c "paste -d' ' $work/v0 $work/v10 $work/v30 |
    awk '\$1 > 0 && !(\$8 < \$5 && \$5 < \$2) { print; bad = 1 } END { exit bad }'"
for i in 0 1 2 3 14; do
    # numbers of the table within one in its last decimal: the last bits differ between machines
    grep "^| $i | [0-9]* | 0\.[0-9]* |" $own | tr -d '|' >"$work/row"
    cat "$work/v0" "$work/v10" "$work/v30" | awk -v i=$i '$1 == i { print $2, $3 }' | tr '\n' ' ' >"$work/now"
    check "the table's row $i" sh -c "paste -d' ' $work/row $work/now | awk '
        function off(a, b) { return (a > b ? a - b : b - a) > 0.00011 }
        NF != 13 || off(\$3, \$8) || off(\$4, \$10) || off(\$5, \$11) || off(\$6, \$12) || off(\$7, \$13) { print; bad = 1 } END { exit bad || NR != 1 }'"
done
echo "passed $good failed $bad"
[ $bad -eq 0 ]
