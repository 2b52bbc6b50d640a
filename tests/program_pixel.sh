#!/bin/sh
# program_pixel.sh -- the program with pixel-space models from outside: generate, invert, what is refused, the same bytes again.
. "$(dirname "$0")/outside.sh"
models=$here/golden/models
free=$models/pix-adm-updown classes=$models/pix-adm-conv ddpm=$models/pix-ddim-unet judge=$models/pix-adm-classifier
draw() { "$tiller" generate -q -m "$free" -s 3 --steps 5 "$@"; }

# help
code 'generate --help' 0 generate -m "$free" --help
check 'help: the options of such models' grep -q -- '--classifier-scale' out
check 'help: 80 columns' awk 'length($0) > 80 { bad = 1 } END { exit bad }' out
code 'invert --help' 0 invert -m "$free" --help;        check 'invert --help: respacing' grep -q -- '--respacing' out
code 'the usual help tells of them' 0 generate --help;  check 'usual help' grep -q 'Pixel-space' out

# pictures
draw -o a.png; draw -o b.png -t 1;                       check 'the same bytes again, for any number of threads' cmp -s a.png b.png
draw -o c.png --preview-every 2;                         check 'previews change nothing' cmp -s a.png c.png
check 'previews are there' test -s c-step0002.png -a -s c-step0004.png -a ! -e c-step0005.png
draw -o k.png -s 4 --no-metadata; draw -o n.png --num-images 2 --no-metadata
check 'the second of two is the first of the next seed' cmp -s k.png n-1.png
draw -o s.png --classifier "$judge" --class 3 --classifier-scale 0 --no-metadata; draw -o p.png --no-metadata
check 'a classifier of scale 0 is none' cmp -s s.png p.png
draw -o g.png --classifier "$judge" --class 3 --classifier-scale 5
check 'guidance changes the picture' test "$(cksum <g.png)" != "$(cksum <a.png)"
check 'metadata' grep -aq '"classifier":"pix-adm-classifier","classifier_scale":5,' g.png
code 'again from a picture' 0 generate -q -m "$free" --classifier "$judge" --params-from g.png -o g2.png
check 'again from a picture: the same' cmp -s g.png g2.png
draw -o x.png --save-latents x.safetensors --sampler ddim --no-metadata
"$tiller" generate -q -m "$free" -s 3 -o y.png --respacing ddim5 --no-metadata; check 'a respacing that begins with ddim' cmp -s x.png y.png
check 'latents' grep -aq '"latents":{"dtype":"F32","shape":\[1,3,16,16\]' x.safetensors
code 'another size' 0 generate -q -m "$free" -W 32 -H 16 --steps 3 -o w.png
code 'a class' 0 generate -q -m "$classes" --class 4 --steps 3 -o l.png
printf 'tench, Tinca tinca\ngoldfish\ncrane\nhen\ncrane, bird\n' >labels.txt
code 'a class by name' 0 generate -m "$classes" --labels labels.txt --class 'tinca TINCA' --steps 3 -o l.png --dry-run
check 'a class by name: its number' grep -q '^class  *0, tench, Tinca tinca$' out
code 'dry run' 0 generate -m "$free" --dry-run -o never.png;     check 'dry run: nothing drawn' test ! -e never.png
check 'dry run: values' grep -q '^respacing  *250$' out
code 'dry run, ddim' 0 generate -m "$ddpm" --dry-run --sampler ddim; check 'dry run, ddim: values' grep -q '^steps  *25$' out
code 'events' 0 generate -m "$free" --steps 2 -s 1 -o e.png --json
check 'events: begin' grep -q '^{"event":"start".*"kind":"adm_unet"' out
check 'events: steps' grep -q '^{"event":"step","image":0,"step":2,"of":2,"t":0,' out
check 'events: end' grep -q '^{"event":"done","images":1' out

# inversion
code 'invert' 0 invert a.png -m "$ddpm" --steps 50 -o z.safetensors --strip strip.png --json
check 'invert: shapes' grep -aq '"stored":{"dtype":"F32","shape":\[51,3,16,16\]' z.safetensors
check 'invert: a strip' test -s strip.png
psnr=$(sed -n 's/.*"psnr_reconstruction":\([0-9.]*\).*/\1/p' out)
check "invert: the way back is near ($psnr dB)" awk "BEGIN { exit !($psnr > 20) }"       # measured 28 dB
code 'back from the noise' 0 generate -q -m "$ddpm" --latents z.safetensors --respacing ddim50 -o back.png
code 'of a class' 0 invert -q a.png -m "$classes" --class 1 --steps 10 -o zc.safetensors

# refused
code 'no class' 2 generate -m "$classes";                        said 'no class' '--class is missing'
code 'class beyond' 2 generate -m "$classes" --class 5;          said 'class beyond' '0 to 4'
code 'class below' 2 generate -m "$classes" --class=-1;          said 'class below' '0 to 4'
code 'class without names' 2 generate -m "$classes" --class dog; said 'class without names' '--labels'
code 'class of two' 2 generate -m "$classes" --class crane --labels labels.txt;  said 'class of two' 'of 2 and of 4'
code 'nearest class' 2 generate -m "$classes" --class goldfsh --labels labels.txt; said 'nearest class' '1, goldfish'
code 'class of a model without' 2 generate -m "$free" --class 1; said 'class of a model without' 'knows no classes'
code 'classifier without class' 2 generate -m "$free" --classifier "$judge"; said 'classifier without class' '--class is missing'
code 'prompt' 2 generate -m "$free" -p x;                        said 'prompt' 'reads no text'
code 'prompt of an inversion' 2 invert a.png -m "$free" -p x;    said 'prompt of an inversion' 'reads no text'
code 'guidance scale' 2 generate -m "$free" --guidance-scale 5;  said 'guidance scale' '--classifier'
code 'scale without classifier' 2 generate -m "$free" --classifier-scale 5
code 'a classifier draws nothing' 2 generate -m "$judge";        said 'a classifier draws nothing' '--classifier'
code 'no classifier' 3 generate -m "$free" --classifier "$classes" --class 1; said 'no classifier' 'adm_classifier'
code 'classifier that is not there' 3 generate -m "$free" --classifier nowhere --class 1; said 'classifier that is not there' 'nowhere'
code 'classifier of other classes' 2 generate -m "$classes" --classifier "$judge" --class 1; said 'classifier of other classes' '7 classes'
code 'classifier and another size' 2 generate -m "$free" --classifier "$judge" --class 1 -W 32
code 'odd size' 2 generate -m "$free" -W 17;                     said 'odd size' 'multiple'
code 'two spacings' 2 generate -m "$free" --steps 4 --respacing 4
code 'respacing' 2 generate -m "$free" --respacing 4,x;          said 'respacing' '10,15,20'
code 'too many' 2 generate -m "$free" --steps 1001;              said 'too many' '1001 of'
code 'eta of the other' 2 generate -m "$free" --eta 0.5;         said 'eta of the other' '--sampler ddim'
cp x.safetensors nan.safetensors; printf '\000\000\300\177' | dd of=nan.safetensors bs=1 seek=$(($(wc -c <nan.safetensors) - 4)) conv=notrunc 2>/dev/null
code 'latents that are no numbers' 3 generate -m "$free" --latents nan.safetensors; said 'latents that are no numbers' '1 of 768 numbers are not finite'
code 'latents of another shape' 3 generate -m "$free" --latents "$models/pix-ddim-unet/model.safetensors"
code 'encode' 3 encode a.png -m "$free";                         said 'encode' 'no autoencoder'; said 'encode' 'hint'
code 'decode' 3 decode x.safetensors -m "$free";                 said 'decode' 'no autoencoder'
code 'edit' 2 edit --method self-guidance -m "$free";            said 'edit' 'asyrp and diffuseit'
code 'memory' 4 generate -m "$free" --steps 2 --max-memory 10M;  said 'memory' 'max-memory'
mkdir up; sed 's/"image_size"/"in_channels": 6, "image_size"/' "$free/config.json" >up/config.json; ln -s "$free/model.safetensors" up/
code 'an upsampler whose first layer reads 3' 3 generate -m up;  said 'an upsampler whose first layer reads 3' 'input_blocks.0.0.weight'
code 'a small picture for no upsampler' 2 generate -m "$free" --low-res a.png; said 'a small picture for no upsampler' 'no upsampler'
mkdir x0; sed 's/"image_size"/"predict_xstart": true, "image_size"/' "$free/config.json" >x0/config.json; ln -s "$free/model.safetensors" x0/
code 'a prediction of x0' 3 generate -m x0;                      said 'a prediction of x0' 'predict_xstart'
for wrong in '"diffusion_steps": 1' '"diffusion_steps": "many"' '"noise_schedule": "sigmoid"' '"timestep_respacing": []' '"rescale_timesteps": 1'; do
    mkdir -p odd; sed "s/\"image_size\"/$wrong, \"image_size\"/" "$free/config.json" >odd/config.json; ln -sf "$free/model.safetensors" odd/
    code "config with $wrong" 3 generate -m odd; said "config with $wrong" "$(expr "$wrong" : '"\([a-z_]*\)"')"
done
mkdir -p odd; sed 's/"image_size"/"diffusion_steps": 500, "rescale_timesteps": true, "timestep_respacing": "ddim10", "noise_schedule": "cosine", "image_size"/' "$free/config.json" >odd/config.json
code 'sampling as the configuration says' 0 generate -m odd --dry-run; check 'its respacing' grep -q '^respacing  *ddim10$' out
check 'its sampler' grep -q '^sampler  *ddim$' out
code 'more than it has' 2 generate -m odd --steps 501;           said 'more than it has' 'of 500'
mkdir nan; cp "$free/config.json" nan/; cp "$free/model.safetensors" nan/; size=$(wc -c <nan/model.safetensors)
printf '\000\000\300\177' | dd of=nan/model.safetensors bs=1 seek=$((size - 4)) conv=notrunc 2>/dev/null
code 'weights that are not numbers' 6 generate -m nan --steps 2; said 'weights that are not numbers' 'not finite'
mkdir short; cp "$free/config.json" short/; head -c 700000 "$free/model.safetensors" >short/model.safetensors
code 'a file cut off' 3 generate -m short
code 'classifier on words' 2 generate --method classifier -p x --steps 2; said 'classifier on words' 'needs a classifier'

# info and sites
code 'info' 0 info -m "$free";                                   check 'info: h' grep -q 'h 32 x 8 x 8' out; check 'info: output' grep -q 'learned variance' out
code 'info, classes' 0 info -m "$classes" --json;                check 'info, classes: counts' grep -q '"adm_unet":{"parameters":177747,"tensors":129,' out
code 'info, classifier' 0 info -m "$judge";                      check 'info, classifier: classes' grep -q '^classes  *7$' out
code 'sites' 0 sites -m "$ddpm" -W 32;                           check 'sites: h' grep -q 'feature  mid  *1,8,16,32 ' out
code 'sites, odd size' 2 sites -m "$free" -H 17;                 said 'sites, odd size' 'multiple of 2'
code 'sites, classifier' 0 sites -m "$judge";                    check 'sites, classifier: pooling' grep -q 'probs  *out.2  *1,2,1,65 ' out
code 'sites, classifier at another size' 2 sites -m "$judge" -W 32; said 'sites, classifier at another size' '16 x 16 pixels alone'
mkdir bare; cp "$free/model.safetensors" bare/
code 'no config.json' 3 info -m bare;                            said 'no config.json' 'pixel-models'
mkdir more; sed 's/"num_classes": 5/"num_classes": null/' "$classes/config.json" >more/config.json; ln -s "$classes/model.safetensors" more/
code 'tensors that nothing asks for' 0 info -m more;             check 'they are listed' grep -q '^unused  *label_emb.weight$' out
code 'tensors that nothing asks for, JSON' 0 info -m more --json; check 'they are listed in JSON' grep -q '"unused":\["label_emb.weight"\]' out
mkdir other; cp "$ddpm/config.json" other/; ln -s "$free/model.safetensors" other/
code 'weights of another network' 3 info -m other;               said 'weights of another network' 'missing: temb.dense.0.weight'

tally
