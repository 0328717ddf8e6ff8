#!/usr/bin/env python3
"""Trains an embedding with batch-hard triplets on a miner's batches; goes on from its checkpoint if there is one."""
import argparse
import json
import os
import pathlib

import torch
from doppel_client import Batches
from torch import nn


def make_net(channels, dimension):
    def block(into, out):
        return [nn.Conv2d(into, out, 3, 2, 1), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*block(channels, 32), *block(32, 64), *block(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(128, dimension))


def batch_hard(embeddings, labels):
    """Soft-margin triplets of each anchor's furthest positive and nearest negative; the share that still teaches."""
    distance = torch.cdist(embeddings, embeddings)
    same = labels[:, None] == labels[None, :]
    gap = distance.masked_fill(~same, 0).amax(1) - distance.masked_fill(same, float("inf")).amin(1)
    return nn.functional.softplus(gap).mean(), (gap > 0).float().mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for flag, default in (("--server", "127.0.0.1:50051"), ("--plan", "random"), ("--steps", 1000), ("--save-every", 100),
                          ("-P", 32), ("-K", 4), ("--output", pathlib.Path("run"))):
        parser.add_argument(flag, type=type(default) if isinstance(default, (str, int)) else pathlib.Path, default=default)
    parser.add_argument("--image", type=int, nargs=3, default=(48, 48, 1), metavar=("HEIGHT", "WIDTH", "CHANNELS"))
    tls = ("tls_ca", "tls_cert", "tls_key", "tls_server_name", "token_file")
    for name in tls:
        parser.add_argument("--" + name.replace("_", "-"), default=os.environ.get("DOPPEL_" + name.upper()))
    args = parser.parse_args()
    torch.manual_seed(0)
    net = make_net(args.image[2], 64)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    args.output.mkdir(parents=True, exist_ok=True)
    checkpoint, step = args.output / "checkpoint.pt", 0
    batches = Batches(args.server, args.plan, args.P, args.K, image=tuple(args.image),
                      **{name: getattr(args, name) for name in tls})
    if checkpoint.exists():
        step = (state := torch.load(checkpoint))["step"]
        net.load_state_dict(state["net"]), optimizer.load_state_dict(state["optimizer"])
        batches.load_state_dict(state["batches"])
    for images, labels, info in batches if step < args.steps else ():
        loss, active = batch_hard(net(images.float() / 127.5 - 1), labels)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        step += 1
        print(json.dumps({"step": step, "cursor": info["cursor"], "loss": loss.item(), "active": active.item()}), flush=True)
        if step % args.save_every == 0 or step == args.steps:
            torch.save({"step": step, "net": net.state_dict(), "optimizer": optimizer.state_dict(),
                        "batches": batches.state_dict()}, f"{checkpoint}.tmp")
            os.replace(f"{checkpoint}.tmp", checkpoint)  # whole or not at all
            batches.acknowledge(info["cursor"])
        if step == args.steps:
            break


if __name__ == "__main__":
    main()
