#!/bin/sh
# program.sh -- the program from outside: verbs, streams, exit codes, the same bytes again, nothing left behind.
. "$(dirname "$0")/outside.sh"
small() { "$tiller" generate -q -p "a red car on grass" -s 7 --steps 4 "$@"; }

# help and wrong usage
code 'version' 0 --version;                     check 'version: on stdout' test -s out -a ! -s err
code 'help' 0 --help;                           check 'help: on stdout' test -s out -a ! -s err
code 'no verb' 2;                               check 'no verb: nothing on stdout' test ! -s out
code 'unknown verb' 2 generat;                  said 'unknown verb' 'generate'
for verb in generate encode decode tokenize info sites; do
    code "$verb --help" 0 $verb --help;         check "$verb --help: on stdout" test -s out -a ! -s err
    check "$verb --help: an example first" grep -q "^  tiller $verb" out
    check "$verb --help: 80 columns" awk 'length($0) > 80 { bad = 1 } END { exit bad }' out
    cp out help1; code "help $verb" 0 help $verb; check "help $verb: the same" cmp -s out help1
    code "$verb: unknown option" 2 $verb --colorr x; said "$verb: unknown option" '--color'
    check "$verb: unknown option: one line" lines err 1
done
code 'help help' 0 help help;                    check 'help help: on stdout' test -s out -a ! -s err
code 'option before the verb' 2 -p x;           said 'option before the verb' 'a verb is wanted'
code 'nearest option' 2 --verison;              said 'nearest option' '--version'
code 'wrong usage as an event' 2 generate --steps 0 --json; check 'wrong usage: event' grep -q '^{"event":"error","code":2' out
code 'two models' 2 info a -m b;                said 'two models' 'two models'; check 'two models: nothing on stdout' test ! -s out
code 'no prompt' 2 generate;                    said 'no prompt' '--prompt'
code 'bad number' 2 generate -p x --steps 4x;   said 'bad number' '4x'
code 'out of range' 2 generate -p x --steps 0;  said 'out of range' '1 to'
code 'odd size' 2 generate -p x -W 63 -H 64;    said 'odd size' 'multiple'
code 'prompt not UTF-8' 2 generate -p "$(printf '\377')"
code 'not a PNG name' 2 generate -p x -o x.JPG; said 'not a PNG name' 'PNG'
code 'kernels' 2 generate -p x --cpu neon --cpu 8086
code 'argument too many' 2 info a b
code 'argument missing' 2 encode
check 'wrong usage leaves nothing' test -z "$(ls -A | grep -v -e '^out$' -e '^err$' -e '^help1$')"

# unusable inputs
code 'no such model' 3 generate -p x -m nowhere;        said 'no such model' 'nowhere'; said 'no such model' 'hint'
mkdir empty; code 'empty model folder' 3 generate -p x -m empty
code 'info: empty model folder' 3 info empty
code 'no such picture' 3 encode nothing.png;            said 'no such picture' 'nothing.png'
echo 'not a picture' >text.png; code 'not a picture' 3 encode text.png; said 'not a picture' 'text.png'
code 'no such latents' 3 decode nothing.safetensors
echo '{}' >bad.safetensors; code 'malformed latents' 3 decode bad.safetensors; said 'malformed latents' 'bad.safetensors'
code 'malformed starting latents' 3 generate -p x --latents bad.safetensors
code 'a folder as a picture' 3 encode .

# words to a picture: the same bytes again, for any number of threads, with and without previews
code 'generate' 0 generate -p 'a red car on grass' -s 7 --steps 4 -o a.png --save-latents a.safetensors
said 'generate: the seed' 'seed: 7';            check 'generate: stdout is empty' test ! -s out
for t in 1 2 3 4; do small -t $t -o b.png; check "same bytes, $t threads" cmp -s a.png b.png; done
small --preview-every 1 -o c.png --save-latents c.safetensors
check 'previews: picture' cmp -s a.png c.png
check 'previews: latents' cmp -s a.safetensors c.safetensors
check 'previews are there' test -s c-step0001.png -a -s c-step0003.png
small --low-memory -o d.png;                    check 'passes apart' cmp -s a.png d.png
small -s 8 -o d.png;                            check 'another seed, another picture' sh -c '! cmp -s a.png d.png'
small --num-images 2 -o n.png
check 'several pictures: the first is the same' sh -c "test -s n-0.png -a -s n-1.png"
small --no-metadata -o plain0.png; small -s 8 -o e.png --no-metadata; small --num-images 2 --no-metadata -o m.png
check 'several pictures: picture k is seed + k' cmp -s m-1.png e.png
check 'metadata: parameters' grep -aq 'Steps: 4, Sampler: DDIM, CFG scale: 7.5, Seed: 7, Size: [0-9]*x[0-9]*, Model hash: [0-9a-f]\{10\}, Model: tiny-model' a.png
check 'metadata: JSON' grep -aq '"prompt":"a red car on grass"' a.png
check 'no metadata' sh -c '! grep -aq -e tEXt -e iTXt e.png'
small -p 'ein rotes Auto → Wiese' -o u.png;     check 'text beyond Latin-1 is iTXt' grep -aq 'iTXt' u.png
small -n 'blue' -o neg.png;                     check 'negative prompt changes it' sh -c '! cmp -s a.png neg.png'
small --rng philox -o ph.png;                   check 'philox changes it' sh -c '! cmp -s a.png ph.png'
small --math reference -t 2 --steps 1 -o ref1.png; small --math reference -t 1 --steps 1 -o ref2.png
check 'reference arithmetic' cmp -s ref1.png ref2.png
small -s -1 -o s1.png; small -s 18446744073709551615 -o s2.png; check 'negative seed' cmp -s s1.png s2.png
small --scale-nothing >/dev/null 2>&1;          check 'unknown option: code' test $? -eq 2
code 'quiet' 0 generate -q -p x -s 1 --steps 1 -o q.png; check 'quiet says nothing' test ! -s out -a ! -s err
code 'dry run' 0 generate -p x -s 1 --dry-run -o dry.png; check 'dry run: values' grep -q 'guidance-scale *7.5' out
check 'dry run writes nothing' test ! -e dry.png
code 'long prompt' 0 generate -p "$(printf 'red car %.0s' $(seq 60))" -s 1 --steps 1 -o long.png; said 'long prompt' 'dropped'

# values from files
code 'params-from' 0 generate -q --params-from a.png -o r.png; check 'params-from: the same bytes' cmp -s a.png r.png
code 'params-from: one of several' 0 generate -q --params-from n-1.png -o r.png; check 'params-from: the seed of that picture' grep -aq 'Seed: 8,' r.png
small --num-images 2 --batch-rng shared -o h.png
code 'params-from: of a shared batch' 0 generate -q --params-from h-1.png -o r.png; check 'params-from: the whole batch' cmp -s h-1.png r-1.png
echo '{"prompt": "a red car on grass", "seed": 7, "steps": 4, "no_metadata": true, "low-memory": false}' >p.json
code 'params' 0 generate -q --params p.json -o r.png; check 'params: as options' cmp -s plain0.png r.png
code 'params: the command line wins' 0 generate -q --params p.json -s 8 -o r.png; check 'params: other seed' cmp -s e.png r.png
echo '{"stesp": 3}' >p.json; code 'params: unknown' 2 generate --params p.json; said 'params: unknown' 'the nearest is --steps'
echo '{"prompt": "a\u0000b"}' >p.json; code 'params: zero byte' 3 generate --params p.json; said 'params: zero byte' 'zero byte'
echo '{"steps": [3]}' >p.json; code 'params: not a value' 3 generate --params p.json; said 'params: not a value' 'p.json'
code 'params-from: no values' 3 generate --params-from e.png; code 'params-from: no file' 3 generate --params-from nothing.png

# events
code 'json' 0 generate --json -p 'a "quoted" cat' -s 1 --steps 3 -o j.png
check 'json: one object a line' awk '!/^\{"event":"[a-z]+",.*\}$/ { bad = 1 } END { exit bad || NR != 6 }' out
for e in start step image done; do check "json: $e" grep -q "^{\"event\":\"$e\"" out; done
check 'json: sha256 of the file' grep -q "\"sha256\":\"$(sha256sum j.png | cut -c1-64)\"" out
code 'json: error' 3 generate --json -p x -m nowhere; check 'json: error event' grep -q '^{"event":"error","code":3' out
if command -v python3 >/dev/null; then
    check 'json: parses' python3 -c 'import json,sys; [json.loads(l) for l in open("out")]'
fi

code 'memory' 0 generate --json -q -p x -s 1 --steps 1 -W 256 -H 256 -o j.png
estimate=$(sed -n 's/.*"estimated_bytes":\([0-9]*\).*/\1/p' out) peak=$(sed -n 's/.*"peak_rss_bytes":\([0-9]*\).*/\1/p' out)
check 'estimated memory within 15 %' test $((estimate * 100)) -gt $((peak * 85)) -a $((estimate * 100)) -lt $((peak * 115))

# latents and pictures
code 'encode' 0 encode a.png -o z.safetensors;  code 'decode' 0 decode z.safetensors -o back.png
check 'decode wrote a PNG' sh -c 'head -c 4 back.png | grep -aq PNG'
code 'decode latents of a run' 0 decode a.safetensors --no-metadata -o again.png
small --no-metadata -o plain.png;               check 'decoded latents are the picture' cmp -s again.png plain.png
code 'encode: sampled' 0 encode a.png --sample -s 3 -o z1.safetensors; code 'again' 0 encode a.png --sample -s 3 -o z2.safetensors
check 'encode: same seed, same latents' cmp -s z1.safetensors z2.safetensors
check 'encode: sampling differs from the mean' sh -c '! cmp -s z.safetensors z1.safetensors'
for fit in crop pad stretch; do code "encode --fit $fit" 0 encode a.png -W 64 -H 96 --fit $fit -o f.safetensors; said "--fit $fit" '64 x 96'; done
code 'starting latents' 0 generate -p x -s 1 --steps 1 --latents f.safetensors -o l.png
code 'starting latents of another size' 2 generate -p x --steps 1 --latents f.safetensors -W 64 -H 64 -o l.png

# looking
code 'tokenize' 0 tokenize 'a photo of a cat';  check 'tokenize: five tokens' lines out 5
check 'tokenize: control characters' sh -c "'$tiller' tokenize \"$(printf 'a\033[31m')\" 2>err | tr -d '\n' | LC_ALL=C awk '/[\001-\037]/ { exit 1 }'"
code 'tokenize --json' 0 tokenize --json 'cat'; check 'tokenize --json: one line' lines out 1
code 'info' 0 info;                             check 'info: unet' grep -q '^unet ' out
towers=$(dirname "$tiller")/../data/tiny-model
code 'info of a tower' 0 info "$towers/dino";                check 'info of a tower: its layers' grep -q '^tower        DINO transformer, names of ViTModel: 4 layers' out
code 'info of a tower, --json' 0 info --json "$towers/clip"; check 'info of a tower, --json: one line' lines out 1
code 'info --json' 0 info --json;               check 'info --json: one line' lines out 1
code 'sites' 0 sites;                           check 'sites: probabilities' grep -q 'probs.*attn2' out
code 'sites --json' 0 sites --json;             check 'sites --json' grep -q '^{"event":"site"' out

# outputs that cannot be
small -o /dev/full 2>err; got=$?;               check 'a device as output' test $got -eq 5
code 'no such folder' 5 generate -p x -s 1 --steps 1 -o no/such/x.png; said 'no such folder' 'no/such/x.png'
mkdir taken.png; code 'a folder in the way' 5 generate -p x -s 1 --steps 1 -o taken.png
"$tiller" info >/dev/full 2>err; got=$?;        check 'stdout is full' test $got -eq 5
( ulimit -f 1; trap '' XFSZ; small --steps 1 -o big.png 2>err ); got=$?
check 'file-size limit: code' test $got -eq 5;  check 'file-size limit: nothing left' sh -c 'test ! -e big.png && ! ls -A | grep -q part'
code 'out of memory' 4 generate -p x -s 1 --steps 1 --max-memory 8M -o mem.png; check 'out of memory: nothing left' test ! -e mem.png
( ulimit -v 300000; exec timeout 100 "$tiller" generate -q -p x -s 1 --steps 1 -W 1024 -H 1024 -t 1 -o mem.png 2>err ); got=$?
check 'address-space limit' test $got -eq 4

for kb in 60000 75000 90000; do
    ( ulimit -v $kb; exec timeout 20 "$tiller" generate -q -p x -s 1 --steps 1 -t 1 -o mem.png 2>err ); got=$?
    check "address space of $kb KB: the program ends, and says why" test $got -eq 4
done

# signals
for signal in INT TERM; do
    number=$([ $signal = INT ] && echo 2 || echo 15) began=$(date +%s)
    timeout --preserve-status -s $signal 1 "$tiller" generate -q -p x -s 1 --steps 500 -o stop.png 2>err; got=$?
    check "SIG$signal: code" test $got -eq $((128 + number))
    check "SIG$signal: within two seconds" test $(($(date +%s) - began)) -le 3
    check "SIG$signal: nothing left" sh -c 'test ! -e stop.png && ! ls -A | grep -q part'
done

began=$(date +%s)
timeout --preserve-status -s INT 2 "$tiller" generate -q -p x -s 1 --steps 1 -W 2048 -H 2048 -o stop.png 2>err; got=$?
check 'inside a long step: code' test $got -eq 130; said 'inside a long step' 'stopped'
check 'inside a long step: the end comes soon' test $(($(date +%s) - began)) -le 5

tally
