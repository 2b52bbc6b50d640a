# outside.sh -- what the tests of the program from outside share; sourced.  A folder of its own is made, entered, and removed at the
# end.  TILLER names the program (build/tiller).  A test's last line is `tally`: "passed P failed F".
here=$(cd "$(dirname "$0")" && pwd)
tiller=$(readlink -f "${TILLER:-build/tiller}")
work=$(mktemp -d) || exit 1
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
cd "$work" || exit 1
good=0 bad=0

check() { # NAME COMMAND...: the command succeeds
    name=$1; shift
    if "$@" >/dev/null 2>&1; then good=$((good + 1)); else bad=$((bad + 1)); echo "$name: FAILED ($*)"; fi
}
code() { # NAME WANTED ARGUMENTS...: exit code; the output is left in out and err
    name=$1 wanted=$2; shift 2
    "$tiller" "$@" >out 2>err; got=$?
    if [ $got -eq "$wanted" ]; then good=$((good + 1)); else bad=$((bad + 1)); echo "$name: exit code $got, not $wanted: $(cat err)"; fi
}
said() { # NAME TEXT: the last command's standard error has it
    if grep -q -- "$2" err; then good=$((good + 1)); else bad=$((bad + 1)); echo "$1: not said: \"$2\" in: $(cat err)"; fi
}
lines() { [ "$(wc -l <"$1")" -eq "$2" ]; }
png() { head -c 4 "$1" | grep -aq PNG; }
tally() { echo "passed $good failed $bad"; [ $bad -eq 0 ]; }
