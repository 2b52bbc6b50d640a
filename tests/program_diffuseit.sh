#!/bin/sh
# program_diffuseit.sh -- `edit --method diffuseit` from outside, in pixels and in latents: pictures, what is said of a run, what is
# refused, the same bytes again.
. "$(dirname "$0")/outside.sh"
models=$here/golden/models
"$tiller" generate -q -m "$models/pix-adm-updown" -s 3 --steps 3 -o a.png
"$tiller" generate -q -m "$models/pix-adm-updown" -s 4 --steps 3 -o b.png
pixels="edit --method diffuseit -m $models/pix-adm-updown --dino $models/pix-dino --image a.png --example none --steps 8 --skip 4 --diff-iter 1 --resample-num 3 -s 3"
tame="--lambda-ssim 10 --lambda-contra-ssim 2 --lambda-dir-cls 1 --lambda-trg 20 --l2-trg-lambda 30 --range-lambda 2"

# pictures, and what is said of them
# shellcheck disable=SC2086
{
code 'in pixels' 0 $pixels $tame --target-image b.png -o x.png --log x.jsonl --strip s.png -v
check 'a picture' png x.png
check 'a line a call' sh -c '[ "$(wc -l <x.jsonl)" = 6 ]'                 # indices 3 (three rounds), 2, 1, 0
check 'every line has its terms' sh -c '[ "$(grep -c "\"ssim\":.*\"contra\":.*\"trg\":.*\"l2_trg\":.*\"range\":.*\"grad_norm\":.*\"variance_high\":" x.jsonl)" = 6 ]'
check 'dir_cls above diff-iter alone' sh -c '[ "$(grep -c dir_cls x.jsonl)" = 4 ]'
check 'the picture says how it was made' grep -aq '"method":"diffuseit"' x.png
said 'each call with -v' 'index   3 round 2'
code 'another number of threads' 0 $pixels $tame --target-image b.png -o y.png -q -t 1;      check 'the same bytes' cmp -s x.png y.png
code 'recomputed' 0 $pixels $tame --target-image b.png -o y.png -q --recompute;              check 'the same bytes again' cmp -s x.png y.png
code 'another seed' 0 $pixels $tame --target-image b.png -o y.png -q -s 5;                   check 'another picture' sh -c '! cmp -s x.png y.png'
code 'switches without a number' 0 $pixels $tame --target-image b.png -o y.png -q --noise-aug-all --ddim --log y.jsonl
check 'DDIM: one round' sh -c '[ "$(wc -l <y.jsonl)" = 4 ]'
code 'restarts' 0 $pixels $tame --target-image b.png -o y.png --range-restart --restart-above 0 --max-restarts 2 --log y.jsonl
said 'restarts' 'restart 2 of at most 2';                                                    check 'restarts: calls' sh -c '[ "$(wc -l <y.jsonl)" = 14 ]'
code 'colours of the target' 0 $pixels $tame --target-image b.png -o y.png -q --colormatch mkl-stretch;  check 'other colours' sh -c '! cmp -s x.png y.png'
code 'events' 0 $pixels $tame --target-image b.png -o y.png --json;                           check 'an event a call' sh -c '[ "$(grep -c "\"event\":\"step\".*\"ssim\":" out)" = 6 ]'
code 'dry run' 0 $pixels --target-image b.png --dry-run;                                     check 'dry run: numbers' grep -q '^  lambda-ssim  *1000' out

# what goes wrong
code 'NaN' 6 $pixels --l2-trg-lambda 1e7 --lambda-trg 1e7 --steps 50 --skip 1 --resample-num 100 --target-image b.png -o n.png
said 'NaN' 'not finite';                        check 'the last finite sample is kept' test -s n-last-good.safetensors -a ! -e n.png
code 'no picture' 2 edit --method diffuseit --target-image b.png;           said 'no picture' '--image is missing'
code 'no target' 2 $pixels;                                                 said 'no target' '--target-image FILE'
code 'two targets' 2 $pixels --target-image b.png --source a --target b;    said 'two targets' 'both name a target'
code 'half a text' 2 $pixels --target b;                                    said 'half a text' 'belong together'
code 'CLIP without a text' 2 $pixels --target-image b.png --clip x;         said 'CLIP without a text' '--clip'
code 'another method beside' 2 edit --method diffuseit --method multi --image a.png --target-image b.png;  said 'another method beside' 'runs alone'
code 'in a list of methods' 2 edit --method multi,diffuseit -p "a cat" --image a.png
code 'no DINO' 2 edit --method diffuseit -m "$models/pix-adm-updown" --image a.png --target-image b.png;   said 'no DINO' '--dino FOLDER'
code 'a DINO that is not there' 3 $pixels --target-image b.png --dino nowhere;                            said 'a DINO that is not there' 'nowhere'
code 'a DINO that is none' 3 $pixels --target-image b.png --dino "$models/pix-clip-vit"
code 'no CLIP' 2 $pixels --source a --target b;                             said 'no CLIP' '--clip'
code 'a CLIP without texts' 3 $pixels --source a --target b --clip "$models/pix-clip-vit"
code 'patches' 2 $pixels --target-image b.png --dino-size 13;               said 'patches' 'patches of 4'
code 'a prompt in pixels' 2 $pixels --target-image b.png -p "a cat";        said 'a prompt in pixels' 'reads no text'
code 'size' 2 $pixels --target-image b.png -W 17;                           said 'size' 'multiple'
code 'all steps skipped' 2 $pixels --target-image b.png --skip 8;           said 'all steps skipped' 'none is left'
code 'steps and respacing' 2 $pixels --target-image b.png --respacing 8;    said 'steps and respacing' '--respacing'
code 'a picture that is none' 3 $pixels --target-image x.jsonl
code 'an output that cannot be' 5 $pixels --target-image b.png -o nowhere/x.png
}

# the bundled model, its own towers
"$tiller" generate -q -p "a photo of an apple on grass" -s 5 --steps 6 --guidance-scale 5 -o photo.png
latent="edit --method diffuseit --image photo.png --steps 6 --skip 2 --resample-num 2 -s 3"
# shellcheck disable=SC2086
{
code 'bundled, a picture' 0 $latent --target-image b.png -o p.png;          said 'bundled: presets' 'presets: tiny-model'
code 'bundled, a text' 0 $latent --source "a photo of an apple on grass" --target "a sketch of an apple" --aug-num 2 -o t.png --log t.jsonl
check 'bundled: CLIP is asked' grep -q '"clip":' t.jsonl
code 'bundled, with its own prompt' 0 $latent --target-image b.png -p "a sketch of an apple" --guidance-scale 3 -o q.png -q
check 'the prompt counts' sh -c '! cmp -s p.png q.png'
}

tally
