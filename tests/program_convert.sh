#!/bin/sh
# program_convert.sh -- checkpoints of torch from outside: convert, list, refuse; a model folder that holds one.
. "$(dirname "$0")/outside.sh"
sound=$here/golden/cases/pix-pt-good broken=$here/golden/cases/pix-pt-bad models=$here/golden/models

# help and wrong usage
code 'convert --help' 0 convert --help;                 check 'convert --help: on stdout' test -s out -a ! -s err
check 'convert --help: an example first' grep -q '^  tiller convert' out
check 'convert --help: 80 columns' awk 'length($0) > 80 { bad = 1 } END { exit bad }' out
code 'convert: no argument' 2 convert
code 'convert: no output' 2 convert "$sound/plain.pt";   said 'convert: no output' 'OUT is wanted'
code 'convert: not a name of safetensors' 2 convert "$sound/plain.pt" x.pt; said 'convert: not a name of safetensors' '.safetensors'
code 'convert: two types' 2 convert "$sound/plain.pt" x.safetensors --f16 --f32
code 'convert: no such branch' 2 convert "$sound/dino.pth" x.safetensors -b ema; said 'convert: no such branch' '"student", "teacher"'
code 'convert: branch of safetensors' 2 convert "$sound/tensors.safetensors" x.safetensors -b ema

# what is in it
code 'list' 0 convert --list "$sound/dino.pth";          check 'list: every branch' grep -q ' student/module.backbone.cls_token$' out
check 'list: sum' grep -q '^61 tensors, 31876 numbers, 0.1 MB$' out
code 'list: JSON' 0 convert --list --json "$sound/nested.pt"
check 'list: JSON: a tensor' grep -q '^{"event":"tensor","name":"teacher/module.backbone.a.half","dtype":"F16","shape":\[6\]}$' out
cp "$sound/plain.pt" torn.pt; printf 'XXXX' | dd of=torn.pt bs=1 seek=1700 conv=notrunc 2>/dev/null
code 'list reads no numbers' 0 convert --list torn.pt
code 'convert does' 3 convert torn.pt x.safetensors;    said 'convert does' 'zip_crc';  said 'convert does' 'hint: the file is damaged'
check 'a failure leaves nothing' test -z "$(ls | grep -v -e '^out$' -e '^err$' -e '^torn.pt$')"
code 'dry run' 0 convert --dry-run "$sound/dino.pth" x.safetensors; check 'dry run: names as they will be' grep -q ' cls_token$' out
check 'dry run writes nothing' test ! -e x.safetensors
code 'info of a checkpoint' 0 info "$sound/plain.pt";    check 'info of a checkpoint: its tensors' grep -q '^BF16  \[5\] *a.bfloat$' out
code 'info of safetensors' 0 info "$sound/tensors.safetensors"; check 'info of safetensors: its tensors' grep -q 'nested.pt:teacher/module.backbone.a.weight$' out

# conversions
code 'dino' 0 convert "$sound/dino.pth" dino.safetensors; said 'dino' '31 tensors'
"$tiller" compare dino.safetensors "$models/pix-dino/model.safetensors" >out 2>/dev/null
check 'dino: teacher, without prefixes; head.* beside it' grep -q '^30 equal, 0 different, 0 missing, 1 extra' out
check 'dino: metadata' grep -aq '"converted_from":"dino.pth"' dino.safetensors
code 'dino: student' 0 convert "$sound/dino.pth" student.safetensors -b student --strip module.backbone.
"$tiller" compare student.safetensors "$models/pix-dino/model.safetensors" >out 2>/dev/null
check 'dino: student: other numbers' grep -q '^0 equal, 30 different, 0 missing, 0 extra' out
code 'all types' 0 convert "$sound/plain.pt" plain.safetensors
cp plain.safetensors first.safetensors; code 'again' 0 convert "$sound/plain.pt" plain.safetensors; check 'again: the same bytes' cmp -s plain.safetensors first.safetensors
code 'all types: listed' 0 info plain.safetensors
for t in 'BF16  \[5\] *a.bfloat' 'F64   \[3\] *a.double' 'F16   \[6\] *a.half' 'I64   \[3\] *steps' 'BOOL  \[3\] *flag' 'F32   \[\] *scalar' 'F32   \[0,4\] *empty' 'F32   \[7,5\] *transposed'; do
    check "stored as: $t" grep -q "^$t\$" out
done
code 'as floats' 0 convert "$sound/plain.pt" f32.safetensors --f32; code 'as floats: listed' 0 info f32.safetensors
check 'as floats: no others' sh -c '! grep -q -e "^F64" -e "^F16" -e "^BF16" out'; check 'as floats: integers stay' grep -q '^I64   \[3\] *steps$' out
code 'safetensors as halves' 0 convert "$models/pix-dino/model.safetensors" half.safetensors --f16
check 'safetensors as halves: size' test "$(wc -c <half.safetensors)" -lt 40000
code 'safetensors, renamed' 0 convert half.safetensors renamed.safetensors --strip blocks.; code 'safetensors, renamed: listed' 0 info renamed.safetensors
check 'safetensors, renamed: a name' grep -q ' 0.attn.qkv.weight$' out
code 'onto itself' 0 convert half.safetensors half.safetensors --f32; code 'onto itself: listed' 0 info half.safetensors
check 'onto itself: floats' grep -q '^F32   \[1,1,24\] *cls_token$' out
code 'no place for it' 5 convert "$sound/plain.pt" no/such/x.safetensors
code 'no such file' 3 convert none.pt x.safetensors

# a model folder that holds the checkpoint: the teacher of a full checkpoint of DINO, against the original
mkdir -p m/models/pix-dino; cp "$models/pix-dino/config.json" m/models/pix-dino/; cp "$sound/dino.pth" m/models/pix-dino/full_checkpoint.pth
code 'a folder with a checkpoint' 0 conform --models m "$here/golden/cases/pix-dino"
cp "$broken/crc.pt" m/models/pix-dino/other.pt; code 'a folder with two' 3 conform --models m "$here/golden/cases/pix-dino"; said 'a folder with two' '2 checkpoints'
rm m/models/pix-dino/full_checkpoint.pth; code "a folder with a strange one" 3 conform --models m "$here/golden/cases/pix-dino"; said "a folder with a strange one" "30 missing: cls_token"

# refusals: a kind, and what to do
for f in legacy:legacy_format:torch.save torchscript:torchscript:Hugging\ Face global_os_system:global_not_allowed:weights_only=False deflated:zip_compressed:torch.save empty:not_zip:cut; do
    name=${f%%:*} rest=${f#*:}
    code "refused: $name" 3 convert "$broken/$name.pt" x.safetensors
    said "refused: $name" "${rest%%:*}";                said "refused: $name: advice" "hint:.*${rest#*:}"
done
code 'refused, as an event' 3 convert --json "$broken/crc.pt" x.safetensors; check 'refused, as an event: it is one' grep -q '^{"event":"error","code":3' out
check 'refusals leave nothing' test ! -e x.safetensors

tally
