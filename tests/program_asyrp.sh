#!/bin/sh
# program_asyrp.sh -- Asyrp from outside: a block learns, is interrupted and goes on to the same bytes, is used; wrong usage.
. "$(dirname "$0")/outside.sh"
golden=$here/golden
number() { sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p" "$2" | tail -n 1; }
set_up='--source grass --target snow --steps 4 --width 64 --height 64 --rate 0.2 --prompts prompts.txt'
printf 'a photo of a cat on grass\na photo of a car on grass\n' >prompts.txt

code 'train --help' 0 train --help
check 'train --help: an example first' grep -q '^  tiller train' out
check 'train --help: 80 columns' awk 'length($0) > 80 { bad = 1 } END { exit bad }' out

# wrong usage, before anything is read: exit 2
code 'nothing to train' 2 train
code 'another thing to train' 2 train vae --source a --target b --images .;   said 'another thing to train' 'asyrp'
code 'no texts' 2 train asyrp --images .;                                     said 'no texts' '--source'
code 'no pictures' 2 train asyrp --source a --target b;                       said 'no pictures' '--images'
code 'two kinds of pictures' 2 train asyrp --source a --target b --images . --prompts prompts.txt
code 't-edit out of range' 2 train asyrp $set_up --t-edit 1001
code 'no time is edited' 2 train asyrp $set_up --t-edit 900;                  said 'no time is edited' 'the highest is 751'
code 'no table' 2 train asyrp $set_up --dataset cats;                         said 'no table' 'celeba-hq'
code 'no such folder' 3 train asyrp --source a --target b --images nowhere;   said 'no such folder' 'nowhere'
mkdir empty
code 'no picture in it' 3 train asyrp --source a --target b --images empty;   said 'no picture in it' 'no PNG or JPEG'
code 'no prompts' 3 train asyrp --source a --target b --prompts nothing.txt
code 'unwritable' 5 train asyrp $set_up -o no/such/d.safetensors
code 'the same texts' 6 train asyrp --source grass --target grass --steps 4 --prompts prompts.txt
check 'wrong usage leaves nothing' test -z "$(ls -A | grep -v -e '^out$' -e '^err$' -e '^prompts.txt$' -e '^empty$')"

# a block learns; the curve is drawn
code 'train' 0 train asyrp $set_up --passes 4 --decay-every 0 --cache cache --plot curve.svg -o whole.safetensors --json
cp out whole.json
check 'the loss falls' awk "BEGIN { exit !($(number last whole.json) < 0.97 * $(number first whole.json)) }"
check 'eight pictures' test "$(grep -c '"event":"picture"' whole.json)" = 8
check 'the curve' grep -q '^<svg' curve.svg
check 'the cache' test "$(ls cache | wc -l)" = 2
code 'train, from the cache' 0 train asyrp $set_up --passes 4 --decay-every 0 --cache cache -o again.safetensors -q
check 'a cache changes no byte' cmp whole.safetensors again.safetensors
code 'train, and tables' 0 train asyrp $set_up --passes 4 --decay-every 0 --cache cache -o again.safetensors --resume --per-time times.safetensors --global global.safetensors -q
check 'what is done is not done again' cmp whole.safetensors again.safetensors
code 'train, one thread' 0 train asyrp $set_up --passes 4 --decay-every 0 --cache cache --threads 1 -o again.safetensors -q
check 'threads change no byte' cmp whole.safetensors again.safetensors

# interrupted by a signal, and gone on with: the same bytes; Adam too
for optimizer in sgd adam; do
    rate=0.2; [ $optimizer = adam ] && rate=0.001
    "$tiller" train asyrp $set_up --optimizer $optimizer --rate $rate --passes 4 --cache cache -o straight.safetensors -q
    "$tiller" train asyrp $set_up --optimizer $optimizer --rate $rate --passes 4 --cache cache --save-every 100 -o parts.safetensors --json -q >events 2>err &
    pid=$!
    for i in $(seq 600); do [ "$(grep -c '"event":"picture"' events)" -ge 2 ] && break; sleep 0.05; done
    kill -INT $pid; wait $pid; got=$?
    check "$optimizer: interrupted" test $got -eq 130
    check "$optimizer: saved all the same" test -f parts.safetensors
    code "$optimizer: other settings" 2 train asyrp $set_up --optimizer $optimizer --rate 0.3 --passes 4 --cache cache -o parts.safetensors --resume
    said "$optimizer: other settings" 'other settings'
    code "$optimizer: resumed" 0 train asyrp $set_up --optimizer $optimizer --rate $rate --passes 4 --cache cache -o parts.safetensors --resume
    said "$optimizer: resumed" 'pictures are done'
    check "$optimizer: the same bytes" cmp straight.safetensors parts.safetensors
done

# used
use='edit -q --no-metadata --method asyrp --steps 4 --guidance-scale 3 -s 3 --width 64 --height 64'
scene='a photo of a dog on grass'
"$tiller" generate -q --no-metadata --steps 4 --guidance-scale 3 -s 3 --width 64 --height 64 -p "$scene" -o plain.png
code 'edit' 0 $use -p "$scene" --delta whole.safetensors -o edit.png
check 'edit: another picture' sh -c '! cmp -s plain.png edit.png'
code 'edit: strength 0' 0 $use -p "$scene" --delta whole.safetensors --strength 0 -o zero.png
check 'edit: strength 0 is generate' cmp plain.png zero.png
code 'edit: two blocks' 0 $use -p "$scene" --delta whole.safetensors,straight.safetensors --weights 1,0.5 -o two.png
code 'edit: a table of times' 0 $use -p "$scene" --delta times.safetensors -o times.png
check 'edit: a table of times: another picture' sh -c '! cmp -s plain.png times.png'
code 'edit: one shift for all times' 0 $use -p "$scene" --delta global.safetensors -o global.png
check 'edit: one shift for all times: another picture' sh -c '! cmp -s plain.png global.png'
code 'edit: a table of another size' 3 edit -q --method asyrp --steps 4 -s 3 --width 128 --height 128 -p "$scene" --delta global.safetensors
said 'edit: a table of another size' '\[192,'
code 'edit: gradual' 0 $use -p "$scene" --delta whole.safetensors --gradual -1,1 --num-images 3 -o g.png --strip strip.png
check 'edit: gradual: the middle is generate' cmp plain.png g-1.png
check 'edit: gradual: a strip' test -s strip.png
code 'edit: a photo' 0 $use -p "$scene" --delta whole.safetensors --image plain.png -o photo.png
code 'no block' 2 $use -p "$scene";                                           said 'no block' '--delta'
code 'a block without the method' 2 edit -q --method self-guidance -p "$scene" --move dog=0.1,0 --delta whole.safetensors
code 't-edit of edit out of range' 2 $use -p "$scene" --delta whole.safetensors --t-edit 1500
code 'weights that do not fit' 2 $use -p "$scene" --delta whole.safetensors --weights 1,2
code 'gradual without pictures' 2 $use -p "$scene" --delta whole.safetensors --gradual 0,1
code 'no such block' 3 $use -p "$scene" --delta nothing.safetensors
code 'not a block' 3 $use -p "$scene" --delta cache/"$(ls cache | head -n 1)"; said 'not a block' 'expected a delta block'
code 'a block of another width' 3 $use -p "$scene" --delta "$golden/models/pix-delta-ddim0"
said 'a block of another width' '\[32,32\]'; said 'a block of another width' '\[192,192\]'
head -c 3000 whole.safetensors >cut.safetensors
code 'a block cut short' 3 $use -p "$scene" --delta cut.safetensors

tally
