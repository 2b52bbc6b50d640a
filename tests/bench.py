#!/usr/bin/env python3
"""Our time against PyTorch's, in one run: the two programs take turns, the minimum of each counts.

    python3 tests/bench.py [--runs 3] [--threads 2] [--what unet,vae,dino] [--programs build/f32/tests]

Needs torch, diffusers and transformers (CPU); nothing else in the project does.  Full-size Stable Diffusion 1.5, 64x64
latent, and DINO ViT-B/8 at 224x224; random weights, batch 1, float32.  Prints one line per quantity: ours, theirs, ratio.
OPENBLAS_CORETYPE is taken out of the environment first: it must slow neither of the two.
"""
import argparse, os, subprocess, sys, time

ap = argparse.ArgumentParser()
ap.add_argument("--runs", type=int, default=3)
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--side", type=int, default=64)
ap.add_argument("--batch", type=int, default=1)
ap.add_argument("--what", default="unet,vae,dino")
ap.add_argument("--programs", default="build/f32/tests")
A = ap.parse_args()

os.environ.pop("OPENBLAS_CORETYPE", None)
import torch
torch.set_num_threads(A.threads)


class Ours:
    def __init__(self, kind, program="bench_unet", side=A.side):
        self.p = subprocess.Popen([os.path.join(A.programs, program), kind, str(side), str(A.threads), str(A.batch)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.p.stdin.write(command + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        if not line:
            sys.exit("bench: our program ended early")
        return float(line)

    def end(self):
        self.p.stdin.close()
        self.p.wait()


def timed(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def duel(ours, table):
    for command, theirs in table:
        a, b = [], []
        ours.ask(command), timed(theirs)                       # warm-up
        for _ in range(A.runs):
            a.append(ours.ask(command))
            b.append(timed(theirs))
        print(f"{command:10s} ours {min(a):7.3f} s   PyTorch {min(b):7.3f} s   ratio {min(a) / min(b):5.2f}", flush=True)
    print(f"peak memory of our process: {ours.ask('memory'):.0f} MB", flush=True)
    ours.end()


def unet():
    from diffusers import UNet2DConditionModel
    net = UNet2DConditionModel(sample_size=64, cross_attention_dim=768).eval()
    for p in net.parameters():
        p.requires_grad_(False)
    z, c = torch.randn(A.batch, 4, A.side, A.side), torch.randn(A.batch, 77, 768)

    def forward():
        with torch.no_grad():
            net(z, 500, c).sample

    def both():
        x = z.clone().requires_grad_(True)
        net(x, 500, c).sample.sum().backward()

    duel(Ours("unet"), [("forward", forward), ("both", both)])


def vae():
    from diffusers import AutoencoderKL
    net = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
                        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4).eval()
    z, x = torch.randn(A.batch, 4, A.side, A.side), torch.randn(A.batch, 3, 8 * A.side, 8 * A.side)

    def run(f, v):
        with torch.no_grad():
            f(v)

    duel(Ours("vae"), [("decode", lambda: run(net.decode, z)), ("encode", lambda: run(net.encode, x))])


def dino():
    from transformers import ViTConfig, ViTModel
    net = ViTModel(ViTConfig(patch_size=8, layer_norm_eps=1e-6, attn_implementation="sdpa"), add_pooling_layer=False).eval()
    seen = []
    next(m for n, m in net.named_modules() if n.endswith(("layers.11.attention.k_proj", "layer.11.attention.attention.key"))) \
        .register_forward_hook(lambda m, i, o: seen.append(o))
    for p in net.parameters():
        p.requires_grad_(False)
    x0 = torch.randn(A.batch, 3, 224, 224)

    def forward():
        seen.clear()
        with torch.no_grad():
            net(x0)

    def both():
        seen.clear()
        x = x0.clone().requires_grad_(True)
        (net(x).last_hidden_state.sum() + seen[0].sum()).backward()

    duel(Ours("dino", "bench_dino", 224), [("forward", forward), ("both", both)])


for name in A.what.split(","):
    {"unet": unet, "vae": vae, "dino": dino}[name]()
