#!/bin/sh
# program_edit.sh -- guided runs from outside: words and edits, zero weight, inversions, outputs, wrong usage, what is left behind.
. "$(dirname "$0")/outside.sh"
scene='a photo of a cat and an apple on grass'
quick() { "$tiller" edit -q --no-metadata --steps 4 --guidance-scale 5 -s 3 -p "$scene" "$@"; }

# help, from the table of methods
for verb in edit invert methods sheet; do
    code "$verb --help" 0 $verb --help
    check "$verb --help: an example first" grep -q "^  tiller $verb" out
    check "$verb --help: 80 columns" awk 'length($0) > 80 { bad = 1 } END { exit bad }' out
done
code 'methods' 0 methods;                       check 'methods: self-guidance' grep -q '^self-guidance ' out
code 'methods --json' 0 methods --json;         check 'methods --json' grep -q '^{"event":"method","name":"self-guidance"' out
names=$(sed 's/.*"name":"\([a-z0-9-]*\)","title".*/\1/' out)
for method in $names; do
    code "help $method" 0 help "$method"
    check "help $method: a command first" sh -c 'head -n 1 out | grep -q "^  tiller "'
    check "help $method: 80 columns" awk 'length($0) > 80 { bad = 1 } END { exit bad }' out
    code "edit --method $method --help" 0 edit --method "$method" --help
    check "edit --method $method --help: 80 columns" awk 'length($0) > 80 { bad = 1 } END { exit bad }' out
done
# a number of a method is never hidden by an option of the verb
"$tiller" edit --help >plain.txt
for method in $names; do
    [ $method = classifier-free ] && continue              # its numbers are options of every run
    "$tiller" methods "$method" --json | tr '{' '\n' | sed -n 's/^"name":"\([a-z0-9-]*\)","symbol".*/\1/p' | while read -r number; do
        grep -qE "^ .*--$number[ =]" plain.txt && echo "$method --$number"
    done
done >hidden.txt
check 'numbers of methods have names of their own' test ! -s hidden.txt; cat hidden.txt

# wrong usage: exit 2, one line and perhaps a hint, nothing left
code 'no prompt' 2 edit;                        said 'no prompt' '--prompt'
code 'unknown method' 2 edit --method self-guidanc -p x;            said 'unknown method' 'self-guidance'
code 'a method twice' 2 edit --method multi,multi -p x;             said 'a method twice' 'twice'
code 'unknown number' 2 edit --method self-guidance --strenght 3 -p x; said 'unknown number' '--strength'
code 'number out of range' 2 edit --method self-guidance --until 2 -p x
code 'not a number' 2 edit --method self-guidance --strength 3x -p x
code 'an edit without a method' 2 edit -p "$scene" --move cat=0.1,0; said 'an edit without a method' 'self-guidance'
code 'word not there' 2 edit --method self-guidance -p "$scene" --move dog=0.1,0 --steps 2; said 'word not there' '"dog" is not in the prompt'; said 'word not there' 'hint'
code 'no such occurrence' 2 edit --method self-guidance -p "$scene" --move 'cat#2=0.1,0' --steps 2
code 'move out of the picture' 2 edit --method self-guidance -p "$scene" --move cat=1.5,0; said 'move out of the picture' 'from -1 to 1'
code 'move without a number' 2 edit --method self-guidance -p "$scene" --move cat
code 'move: not a number' 2 edit --method self-guidance -p "$scene" --move cat=x,0
code 'resize to nothing' 2 edit --method self-guidance -p "$scene" --resize cat=0
code 'box outside' 2 edit --method multi -p "$scene" --box cat=0.5,0.5,1.5,1;   said 'box outside' 'outside the picture'
code 'box empty' 2 edit --method multi -p "$scene" --box cat=0.5,0.5,0.2,1
code 'box of three numbers' 2 edit --method multi -p "$scene" --box cat=0.5,0.5,1
code 'mask: no such file' 3 edit --method suppress-to-impress -p "$scene" --mask cat=nothing.png
code 'no object in the prompt' 2 edit --method multi -p 'sunset glow' --steps 2; said 'no object in the prompt' '--objects'
code 'methods that do not compose' 2 edit --method multi,attend-and-excite --refine 1 -p "$scene" --steps 2; said 'methods that do not compose' 'multi and attend-and-excite'
code 'half a direction' 2 edit --method multi -p "$scene" --source cat; said 'half a direction' '--target'
code 'cache without a photo' 2 edit --method self-guidance -p "$scene" --cache c
code 'no such photo' 3 edit --method self-guidance -p "$scene" --image nothing.png
code 'prompt not UTF-8' 2 edit -p "$(printf '\377')"
code 'invert: no photo' 2 invert
code 'unwritable' 5 edit -p "$scene" -o no/such/x.png
check 'wrong usage leaves nothing' test -z "$(ls -A | grep -v -e '^out$' -e '^err$' -e '^plain.txt$' -e '^hidden.txt$')"

# without a method, and with a method of no weight: the bits of generate
"$tiller" generate -q --no-metadata --steps 4 --guidance-scale 5 -s 3 -p "$scene" -o g.png --save-latents g.st
quick -o e.png --save-latents e.st
check 'no method: latents of generate' cmp -s g.st e.st; check 'no method: picture of generate' cmp -s g.png e.png
quick -o e.png --save-latents e.st --maps maps0 --strip s0.png
check 'maps change nothing' cmp -s g.st e.st
quick --method self-guidance --strength 0 --move cat=0.2,0 -o e.png --save-latents e.st
check 'self-guidance of strength 0' cmp -s g.st e.st
for method in attend-and-excite a-star suppress-to-impress multi; do
    quick --method $method --scale 0 -o e.png --save-latents e.st
    check "$method of scale 0" cmp -s g.st e.st
done
quick --method prompt-to-prompt --source-prompt 'a photo of a dog and an apple on grass' --cross-replace 0 --self-replace 0 -o e.png --save-latents e.st
check 'prompt-to-prompt of nothing' cmp -s g.st e.st
quick --method plug-and-play --features 0 --self-attention 0 -o e.png --save-latents e.st
check 'plug-and-play of nothing' cmp -s g.st e.st
for t in 1 2; do quick --method self-guidance --move cat=0.2,0 -t $t -o t$t.png --save-latents t$t.st; done
check 'guided: the same for any number of threads' cmp -s t1.st t2.st
check 'guided: not what generate gives' sh -c '! cmp -s g.st t1.st'
quick --method self-guidance --move cat=0.2,0 --recompute -o e.png --save-latents e.st
check 'recomputing changes nothing' cmp -s t1.st e.st
"$tiller" generate -q --no-metadata --steps 4 --guidance-scale 5 -s 3 -p "$scene" --method self-guidance --move cat=0.2,0 -o e.png --save-latents e.st
check 'generate --method is edit --method' cmp -s t1.st e.st
quick --method self-guidance --move cat=0.2,0 --eta 1 -o e.png --save-latents e1.st; quick --eta 1 -o e.png --save-latents e2.st
"$tiller" generate -q --no-metadata --steps 4 --guidance-scale 5 -s 3 -p "$scene" --eta 1 --rescale 0.7 -o e.png --save-latents g2.st
quick --eta 1 --rescale 0.7 -o e.png --save-latents e3.st
check 'eta and rescale as in generate' cmp -s g2.st e3.st
check 'eta: guidance acts' sh -c '! cmp -s e1.st e2.st'

# outputs
code 'an edit' 0 edit --method self-guidance --prompt "$scene" --move 'cat=+0.25,0' --resize 'apple=1.5' -s 3 --steps 4 -o out.png --strip strip.png --maps maps --plot plot.svg
said 'an edit: the presets' 'tiny-model'; said 'an edit: objects' 'objects: cat, apple'
check 'an edit: picture' png out.png;           check 'an edit: strip' png strip.png
check 'an edit: maps' test -s maps/05-cat.png -a -s maps/08-apple.png
check 'an edit: plot' sh -c 'head -c 4 plot.svg | grep -q svg && tail -n 1 plot.svg | grep -q "</svg>"'
check 'an edit: metadata' grep -aq '"methods":\[{"name":"self-guidance"' out.png
check 'an edit: metadata has the edits' grep -aq '"kind":"move","word":"cat","x":0.25' out.png
code 'json' 0 edit --json --method self-guidance -p "$scene" --move cat=0.2,0 -s 3 --steps 3 -o j.png
check 'json: one object a line' awk '!/^\{"event":"[a-z]+",.*\}$/ { bad = 1 } END { exit bad || NR != 6 }' out
check 'json: energy, gradient, push' grep -q '"event":"step".*"loss":[0-9.e-]*,"grad_norm":[0-9.e-]*,"push":' out
code 'dry run' 0 edit --dry-run --method self-guidance -p "$scene" -o dry.png; check 'dry run: presets' grep -q 'strength *300' out
check 'dry run writes nothing' test ! -e dry.png
code 'dry run: the papers' 0 edit --dry-run --paper-defaults --method self-guidance -p "$scene"; check 'papers: strength' grep -q 'strength *7500' out
check 'papers: 50 steps' grep -q 'steps *50' out
quick --method self-guidance --move cat=0.2,0 --num-images 2 -o n.png;   check 'two pictures' test -s n-0.png -a -s n-1.png
code 'several words' 0 edit -q --method multi --objects 'cat,apple' --box 'cat=0,0,0.5,1' -p "$scene" -s 3 --steps 2 -o b.png
code 'plurals' 0 edit -q --method self-guidance -p 'two cats on grass' --move cat=0.1,0 --steps 2 -s 1 -o b.png
echo 'iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAAC0lEQVR4nGP4zwAAAgEBADK6K5IAAAAASUVORK5CYII=' | base64 -d >half.png     # two pixels: white, black
code 'masks' 0 edit -q --method suppress-to-impress -p "$scene" --mask cat=half.png --mask apple=half.png --steps 2 -s 1 -o b.png
code 'a mask too few' 2 edit -q --method suppress-to-impress -p "$scene" --objects cat,apple --mask cat=g.png --steps 2 -s 1 -o b.png
code 'words swapped' 0 edit -q --no-metadata --method prompt-to-prompt --source-prompt "$scene" -p 'a photo of a dog and an apple on grass' --blend cat,dog --steps 4 -s 3 -o w.png --save-latents w.st
code 'a word reweighted' 0 edit -q --no-metadata --method prompt-to-prompt --source-prompt "$scene" -p "$scene" --reweight apple=3 --steps 4 -s 3 -o w.png --save-latents w2.st
check 'and they differ' sh -c '! cmp -s w.st w2.st'
code 'a direction of words' 0 edit --method pix2pix-zero -p 'a photo of a cat on grass' --source cat --target dog --steps 2 -s 3 -o w.png
printf 'a photo of a cat\n\n# no sentence\n  the cat \n' >cats; printf 'a photo of a dog\nthe dog\n' >dogs
code 'a direction of sentences' 0 edit -q --method pix2pix-zero -p 'a photo of a cat on grass' --source-sentences cats --target-sentences dogs --steps 2 -s 3 -o w.png
: >nobody; code 'a file without sentences' 3 edit -q --method pix2pix-zero -p 'a cat' --source-sentences nobody --target-sentences dogs --steps 2 -o w.png
code 'a direction is missing' 2 edit --method pix2pix-zero -p 'a cat' --steps 2 -o w.png; said 'a direction is missing' '--source cat --target dog'
code 'a photo is missing' 2 edit --method null-text -p 'a cat' --steps 2 -o w.png; said 'a photo is missing' '--image'
code 'sheet' 0 sheet strip.png s0.png -o sheet.png;  check 'sheet: picture' png sheet.png

# photos: fitted, inverted, kept
code 'invert' 0 invert g.png --prompt "$scene" --steps 10 -o z.st --strip zs.png --cache kept
said 'invert: measured' 'reconstruction: [0-9.]* dB';  check 'invert: strip' png zs.png
psnr=$(sed -n 's/.*reconstruction: \([0-9]*\)\..*/\1/p' err)
check 'invert: the way back' test "$psnr" -ge 20       # 10 steps: 27 dB measured; a wrong step order gives less than 15
code 'invert: again' 0 invert g.png --prompt "$scene" --steps 10 -o z2.st --cache kept; said 'invert: kept' 'read from kept/'
check 'invert: the same' cmp -s z.st z2.st
file=$(ls kept/*.safetensors)
head -c 300 "$file" >cut; cp cut "$file"; code 'invert: a broken file in the cache' 0 invert g.png --prompt "$scene" --steps 10 -o z3.st --cache kept
check 'invert: made again' cmp -s z.st z3.st
code 'a photo' 0 edit -q --method self-guidance --image g.png -p "$scene" --move apple=0.2,0 --steps 3 -s 1 -o p1.png --strip ps.png
code 'a photo from its inversion' 0 edit --method self-guidance --image g.png -p "$scene" --move apple=0.2,0 --steps 10 --start inverted --cache kept -s 1 -o p2.png
said 'a photo: kept' 'read from kept/'; said 'a photo: measured' 'dB'
code 'pix2pix-zero of a photo' 0 edit --method pix2pix-zero --image g.png --source cat --target dog --steps 4 -s 1 -o p4.png --cache kept
said 'pix2pix-zero of a photo: its text' 'source prompt: a photo of a cat'; said 'pix2pix-zero of a photo: measured' 'dB'
code 'prompt-to-prompt of a photo' 0 edit --method prompt-to-prompt --image g.png --source-prompt "$scene" -p 'a photo of a dog and an apple on grass' --steps 4 --null-inner 2 -s 1 -o p5.png --cache kept
code 'and once more' 0 edit --method prompt-to-prompt --image g.png --source-prompt "$scene" -p 'a photo of a dog and an apple on grass' --steps 4 --null-inner 2 -s 1 -o p6.png --cache kept
said 'prompt-to-prompt: kept' 'read from kept/'; check 'prompt-to-prompt: the same from the cache' cmp -s p5.png p6.png
code 'plug-and-play of a photo' 0 edit -q --method plug-and-play --inversion-steps 20 --image g.png --source-prompt '' -p "$scene" --steps 4 -o p7.png
code 'a photo of another size' 0 edit --method self-guidance --image strip.png -p "$scene" --move apple=0.2,0 --steps 2 -s 1 -o p3.png
said 'a photo of another size' 'resized to 128 x 128'
for seconds in 2 4 8 16 32; do                            # as long as it takes to begin
    timeout -s INT $seconds "$tiller" invert g.png -q -p "$scene" --steps 500 -o stop.st --cache stopped 2>err
    ls stopped/*.safetensors >/dev/null 2>&1 && break
done
check 'an interrupted inversion is kept' sh -c 'ls stopped/*.safetensors'; check 'and no output is' test ! -e stop.st
timeout -s INT $seconds "$tiller" invert g.png -p "$scene" --steps 500 -o stop.st --cache stopped 2>err
said 'an interrupted inversion goes on' 'continued after [0-9]* of 500'

# numbers that are no numbers: exit 6, the last good latent is kept
header='{"latents":{"dtype":"F32","shape":[1,4,16,16],"data_offsets":[0,4096]}}'
printf "\\$(printf %03o ${#header})"'\0\0\0\0\0\0\0%s' "$header" >huge.st
i=0; while [ $i -lt 1024 ]; do printf '\377\377\177\176'; i=$((i + 1)); done >>huge.st
code 'not finite' 6 edit --method self-guidance -p "$scene" --move cat=0.2,0 --latents huge.st --steps 3 -s 1 -o nan.png
said 'not finite: where' 'step 1 of 3';         said 'not finite: the last good one' 'nan-last-good.safetensors'
check 'not finite: it is kept' test -s nan-last-good.safetensors -a ! -e nan.png

tally
