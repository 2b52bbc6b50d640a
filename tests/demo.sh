#!/bin/sh
# demo.sh [TILLER [OUTPUT]] -- a picture from words, and a contact sheet of the guidance methods with the bundled model: a row a
# method, source | result | attention of its words (diffuseit: source | target | result).  FOLDER=f keeps the strips there, one file a row.
tiller=${1:-build/tiller} output=${2:-demo.png}
folder=${FOLDER:-$(mktemp -d)} || exit 1
[ -n "$FOLDER" ] || trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder"
row() { # FILE ARGUMENTS...
    name=$1; shift
    printf 'tiller edit'
    for word; do case $word in *\ * | '') printf ' "%s"' "$word" ;; *) printf ' %s' "${word##*/}" ;; esac; done
    echo
    "$tiller" edit -q "$@" -o "$folder/result.png" --strip "$folder/$name.png" || exit $?
}
"$tiller" generate -q -p "a photo of an apple on grass" -s 5 --steps 25 --guidance-scale 5 -o "$folder/photo.png" || exit $?
"$tiller" generate -q -p "a mosaic of a house at night" -s 5 --steps 25 --guidance-scale 5 -o "$folder/look.png" || exit $?

row self-guidance       --method self-guidance -p "a photo of an apple on grass" --move apple=0.25,0 -s 5
row self-guidance-size  --method self-guidance -p "a photo of an apple on grass" --resize apple=1.6 -s 5
row prompt-to-prompt    --method prompt-to-prompt --source-prompt "a photo of an apple on grass" -p "a photo of a ball on grass" -s 5
row prompt-to-prompt-refine --method prompt-to-prompt --source-prompt "a photo of an apple on grass" -p "a photo of an apple in the snow" -s 5
row pix2pix-zero        --method pix2pix-zero --image "$folder/photo.png" --source-prompt "a photo of an apple on grass" --source apple --target ball
row plug-and-play       --method plug-and-play --inversion-steps 100 --image "$folder/photo.png" --source-prompt "" -p "a sketch of an apple on grass"
row multi               --method multi -p "a photo of an apple and a fish on grass" --objects apple,fish -s 5
row diffuseit           --method diffuseit --image "$folder/photo.png" --target-image "$folder/look.png" -s 3
row asyrp               --method asyrp --delta "$(dirname "$0")/../data/deltas/snow.safetensors" -p "a photo of a fish on grass" -s 501

cd "$folder" || exit 1
names="self-guidance.png self-guidance-size.png prompt-to-prompt.png prompt-to-prompt-refine.png pix2pix-zero.png plug-and-play.png multi.png diffuseit.png asyrp.png"
case $tiller in /*) ;; *) tiller=$OLDPWD/$tiller ;; esac
case $output in /*) ;; *) output=$OLDPWD/$output ;; esac
# shellcheck disable=SC2086
"$tiller" sheet $names -o "$output"
