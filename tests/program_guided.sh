#!/bin/sh
# program_guided.sh -- what guided runs share, from outside: how predictions are mixed, values from files, previews, runs that go on,
# memory, options that nobody reads, pictures for objects, where a number stopped being one.
. "$(dirname "$0")/outside.sh"
scene='a photo of a cat and an apple on grass'
quick() { "$tiller" edit -q --no-metadata --steps 4 --guidance-scale 5 -s 3 -p "$scene" "$@"; }
differ() { ! cmp -s "$1" "$2"; }
passes() { sed -n "s/.*\"step\":$1,.*\"forwards\":\([0-9]*\).*/\1/p" out; }

# options that the chosen method does not read: exit 2, naming who does
code 'move: not read' 2 edit --method multi -p "$scene" --move cat=0.1,0;            said 'move: who reads it' 'multi would ignore it; methods that read it: self-guidance'
code 'box: not read' 2 edit --method self-guidance -p "$scene" --box cat=0,0,0.5,1;  said 'box: who reads it' 'multi'
code 'mask: not read' 2 edit --method multi -p "$scene" --mask cat=x.png;            said 'mask: who reads it' 'suppress-to-impress'
code 'reweight: not read' 2 edit --method self-guidance -p "$scene" --reweight cat=2; said 'reweight: who reads it' 'prompt-to-prompt'
code 'direction: not read' 2 edit --method multi -p "$scene" --source cat --target dog; said 'direction: who reads it' 'pix2pix-zero'
code 'photo: not read' 2 edit --method multi -p "$scene" --image x.png;              said 'photo: who reads it' 'self-guidance'
code 'photo: no method' 2 edit -p "$scene" --image x.png;                            said 'photo: no method' '--method'
code 'source prompt: not read' 2 edit --method multi -p "$scene" --source-prompt x
code 'source seed: not read' 2 edit --method prompt-to-prompt -p "$scene" --source-seed 4
code 'objects: not read' 2 edit --method prompt-to-prompt -p "$scene" --objects cat
code 'cache: not read' 2 edit --method self-guidance --image x.png -p "$scene" --cache c
code 'not blended, nothing to blend' 2 edit --method prompt-to-prompt -p "$scene" --blend-not cat
code 'invert: a method that inverts nothing' 2 invert x.png --method multi
code 'eta of the other sampler' 2 edit -p "$scene" --sampler ddpm --eta 1;           said 'eta of the other sampler' 'DDIM'
code 'window outside the run' 2 edit --method prompt-to-prompt -p "$scene" --window cat=0,1.5
code 'composed: no text' 2 generate -p "$scene" --compose =2;                        said 'composed: no text' 'TEXT=WEIGHT'
code 'composed: too many' 2 generate -p x --compose a --compose b --compose c --compose d --compose e
code 'a picture that is not there' 3 edit --method self-guidance -p "$scene" --insert cat=nothing.png
check 'nothing is left' test -z "$(ls -A | grep -v -e '^out$' -e '^err$')"

# mixing: of one, nothing changes; an interval needs one pass outside; composed prompts need one more
quick -o a.png --save-latents a.st
quick -o b.png --save-latents b.st --interval-low 0 --interval-high 1000 --projection 1 --norm-cap 0
check 'an interval of all noise' cmp -s a.st b.st
"$tiller" generate -q --no-metadata --steps 4 --guidance-scale 5 -s 3 -p "$scene" --compose 'a photo of a dog=0' -o b.png --save-latents b.st
check 'a prompt of no weight' cmp -s a.st b.st
code 'interval' 0 generate --json -q --no-metadata --steps 4 --guidance-scale 5 -s 3 -p "$scene" --interval-low 0.1 --interval-high 2 -o b.png --save-latents b.st
check 'interval: one pass where it is not' test "$(passes 1)$(passes 2)$(passes 3)$(passes 4)" = 1221
check 'interval: another picture' differ a.st b.st
code 'composed' 0 edit --json -q --no-metadata --steps 4 --guidance-scale 5 -s 3 -p "$scene" --compose 'in the snow=3' -o b.png --save-latents b.st
check 'composed: three passes' test "$(passes 1)" = 3; check 'composed: another picture' differ a.st b.st
quick --projection 0 -o b.png --save-latents c.st;  check 'projected: another picture' differ a.st c.st
quick --rescale 0.7 -o b.png --save-latents d.st;   check 'rescaled: another picture' differ a.st d.st
quick -n 'an apple' -o b.png --save-latents d.st;   check 'negative: another picture' differ a.st d.st
code 'an interval with a method' 0 edit --json -q --method self-guidance -p "$scene" --move cat=0.2,0 --interval-high 2 --steps 4 -s 3 -o b.png
check 'an interval with a method: its reference, too' test "$(passes 1)" = 2
code 'fitted texts and an interval' 2 edit --method null-text --image a.png -p "$scene" --interval-high 5 --steps 2; said 'fitted texts and an interval' 'interval'
code 'classifier-free by name' 0 edit -q --no-metadata --method classifier-free --guidance-scale 5 --steps 4 -s 3 -p "$scene" -o b.png --save-latents b.st
check 'classifier-free by name: the same' cmp -s a.st b.st

# values from files
code 'an edit of all kinds' 0 edit -q --method self-guidance -p "$scene" --move cat=0.2,-0.1 --resize apple=1.5,0.7 --compose 'in the snow=2' --interval-high 9 --sampler ddpm -s 3 --steps 3 -o k.png
code 'again from the picture' 0 edit -q --params-from k.png -o k2.png;       check 'again from the picture: the same bytes' cmp -s k.png k2.png
code 'and by generate' 0 generate -q --params-from k.png -o k2.png;          check 'and by generate: the same bytes' cmp -s k.png k2.png
code 'with another seed' 0 edit -q --params-from k.png -s 4 -o k2.png;       check 'with another seed: another picture' grep -aq 'Sampler: DDPM, CFG scale: 5, Seed: 4' k2.png
code 'swapped' 0 edit -q --method prompt-to-prompt --source-prompt 'a photo of a dog and an apple on grass' -p "$scene" --window cat=0.5 --blend cat,dog --blend-not apple --reweight grass=2 -s 3 --steps 4 -o w.png
code 'swapped, again' 0 edit -q --params-from w.png -o w2.png;               check 'swapped, again: the same bytes' cmp -s w.png w2.png
quick --method prompt-to-prompt --source-prompt 'a photo of a dog and an apple on grass' -o e.png --save-latents e.st
quick --method prompt-to-prompt --source-prompt 'a photo of a dog and an apple on grass' --window cat=0 -o e.png --save-latents e2.st
check 'a word with a window of its own' differ e.st e2.st
printf '{"method": "self-guidance", "prompt": "%s", "move": "cat=0.2,0", "seed": 3, "steps": 3, "strength": 100}' "$scene" >p.json
code 'params' 0 edit -q --params p.json -o p1.png; code 'params as options' 0 edit -q --method self-guidance -p "$scene" --move cat=0.2,0 -s 3 --steps 3 --strength 100 -o p2.png
check 'params: the same bytes' cmp -s p1.png p2.png
code 'params: no file' 3 edit --params nothing.json

# previews change nothing
quick --method self-guidance --move cat=0.2,0 -o g.png --save-latents g.st
quick --method self-guidance --move cat=0.2,0 --preview-every 2 -o v.png --save-latents v.st
check 'previews: latents' cmp -s g.st v.st;                                  check 'previews are there' png v-step0002.png

# pictures of their own; a source of another seed; the other sampler
code 'an object from a picture' 0 edit -q --method self-guidance -p "$scene" --insert cat=a.png -s 3 --steps 3 -o i.png
code 'objects from pictures' 0 edit -q --method self-guidance -p "$scene" --collage cat=a.png --collage apple=g.png -s 3 --steps 3 -o i2.png
code 'an object from a picture: a word not there' 2 edit --method self-guidance -p "$scene" --insert dog=a.png --steps 3
code 'the layout of another seed' 0 edit -q --no-metadata --method self-guidance -p "$scene" --layout cat,apple --source-seed 9 --paper-defaults --guidance-scale 5 -s 3 --steps 4 -o l.png --save-latents l.st
quick --method self-guidance --layout cat,apple --paper-defaults -o l.png --save-latents l2.st; check 'is not that of its own' differ l.st l2.st
quick --sampler ddpm -o d.png --save-latents d1.st; quick --method self-guidance --strength 0 --move cat=0.2,0 --sampler ddpm -o d.png --save-latents d2.st
check 'ddpm: strength 0 is plain sampling' cmp -s d1.st d2.st;               check 'ddpm is not ddim' differ d1.st a.st

# a run that was interrupted goes on to the same bytes
set -- --method a-star -p "$scene" --paper-defaults --steps 80 --guidance-scale 5 --eta 0.5 -s 3
"$tiller" edit -q "$@" -o whole.png
"$tiller" edit -q "$@" -o part.png --resume 2>err &
pid=$!
for i in $(seq 1200); do [ -s part-resume.safetensors ] && break; sleep 0.05; done     # written once a second
kill -INT $pid; wait $pid
check 'interrupted: what is done is there' test -s part-resume.safetensors -a ! -e part.png
code 'resumed' 0 edit "$@" -o part.png --resume;                             said 'resumed' 'resumed: [0-9]* of 80'
check 'resumed: the same bytes' cmp -s whole.png part.png;                   check 'resumed: nothing else is left' test ! -e part-resume.safetensors
code 'there already' 0 edit "$@" -o part.png --resume;                       said 'there already' 'it is there already'

# memory
code 'memory' 0 edit --json -q --method self-guidance --move cat=0.2,0 -p "$scene" -s 1 --steps 2 -W 256 -H 256 -o m.png
estimate=$(sed -n 's/.*"estimated_bytes":\([0-9]*\).*/\1/p' out) peak=$(sed -n 's/.*"peak_rss_bytes":\([0-9]*\)}.*/\1/p' out | tail -n 1)
check 'estimated memory within 15 %' test $((estimate * 100)) -gt $((peak * 85)) -a $((estimate * 100)) -lt $((peak * 115))    # 101 % measured
code 'too little' 4 edit -q --method self-guidance --move cat=0.2,0 -p "$scene" --steps 1 --max-memory 60M -o m.png; said 'too little' '--recompute'
code 'dry run: memory' 0 edit --dry-run --method multi -p "$scene";           check 'dry run: memory is said' grep -q '^memory  *[0-9]* MB' out

# NaN: the block that showed it first
header='{"latents":{"dtype":"F32","shape":[1,4,16,16],"data_offsets":[0,4096]}}'
printf "\\$(printf %03o ${#header})"'\0\0\0\0\0\0\0%s' "$header" >huge.st
i=0; while [ $i -lt 1024 ]; do printf '\377\377\177\176'; i=$((i + 1)); done >>huge.st
code 'not finite: plain' 6 edit -p "$scene" --latents huge.st --steps 3 -s 1 -o nan.png;   said 'not finite: plain: where' 'first seen in the output of'
code 'not finite' 6 edit --method self-guidance -p "$scene" --move cat=0.2,0 --latents huge.st --steps 3 -s 1 -o nan.png; said 'not finite: where' 'step 1 of 3 .*up_blocks.*attn2'

tally
