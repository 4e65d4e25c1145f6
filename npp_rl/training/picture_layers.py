"""Convolutions of pictures. On CPUs the first is a compiled kernel that reads bytes and skips what is of one grey.

Most of a picture is open space or solid ground: two thirds of the patches that a first convolution reads hold one grey
only. Such a patch takes one product with the sum of the weights instead of one for each pixel, and so does each row of
four equal pixels in other patches.
"""

import functools

import numpy as np
import torch
from numba import prange
from torch import nn

from npp_rl.simulator.compiled import njit
from npp_rl.training.compiled_layers import PART, compile_for, runs_compiled
from npp_rl.training.graph_vectors import add, fma, load, maximum, select_positive, splat, store

GREY = np.uint32(0x01010101)  # times a byte: four pixels of this grey


@functools.cache
def _kernels(rows: int, channels: int):
    """Compiled (forward, backward) of `first_convolution`.

    words uint32 [B, pictures, height, width / 4]: four pixels each, the left one in the lowest byte. A patch consists
    of `rows` words, four in each of rows / 4 pictures. weight float32 [(rows * 5 + 1) * channels]: of each word's four
    pixels and their sum, at last the sum of all. out float32 [B, height / 4, width / 4, pictures * 4 / rows, channels].
    d_weight float32 [parts, ...]: gradients of the same sums, of PART batch elements each. d_bias [parts, channels].
    """
    last = rows * 5 * channels

    @njit(parallel=True, _nrt=False)
    def forward(words, weight, bias, out):
        for b in prange(len(words)):
            for y in range(out.shape[1]):
                for x in range(out.shape[2]):
                    for j in range(out.shape[3]):
                        first, same = words[b, j * (rows // 4), 4 * y, x], True
                        for r in range(rows):
                            same &= words[b, j * (rows // 4) + r // 4, 4 * y + r % 4, x] == first
                        z = load(bias, 0, channels)
                        if same and first == (first & np.uint32(255)) * GREY:
                            grey = splat(np.float32(first & np.uint32(255)), channels)
                            z = fma(grey, load(weight, last, channels), z)
                        else:
                            for r in range(rows):
                                word, w = words[b, j * (rows // 4) + r // 4, 4 * y + r % 4, x], r * 5 * channels
                                grey = splat(np.float32(word & np.uint32(255)), channels)
                                if word == (word & np.uint32(255)) * GREY:
                                    z = fma(grey, load(weight, w + 4 * channels, channels), z)
                                else:
                                    for k in range(4):
                                        grey = np.float32((word >> np.uint32(8 * k)) & np.uint32(255))
                                        z = fma(splat(grey, channels), load(weight, w + k * channels, channels), z)
                        store(out[b, y, x, j], 0, maximum(splat(np.float32(0), channels), z))

    @njit(parallel=True, _nrt=False)
    def backward(words, out, d_out, d_weight, d_bias):
        for part in prange(len(d_weight)):
            d_w = d_weight[part]
            d_w[:] = 0
            d_sum, d_all = splat(np.float32(0), channels), splat(np.float32(0), channels)
            for b in range(part * PART, min(part * PART + PART, len(words))):
                for y in range(out.shape[1]):
                    for x in range(out.shape[2]):
                        for j in range(out.shape[3]):
                            z, d_z = load(out[b, y, x, j], 0, channels), load(d_out[b, y, x, j], 0, channels)
                            d_z = select_positive(z, splat(np.float32(0), channels), d_z)
                            d_sum = add(d_sum, d_z)
                            first, same = words[b, j * (rows // 4), 4 * y, x], True
                            for r in range(rows):
                                same &= words[b, j * (rows // 4) + r // 4, 4 * y + r % 4, x] == first
                            if same and first == (first & np.uint32(255)) * GREY:
                                grey = splat(np.float32(first & np.uint32(255)), channels)
                                d_all = fma(grey, d_z, d_all)
                            else:
                                for r in range(rows):
                                    word, w = words[b, j * (rows // 4) + r // 4, 4 * y + r % 4, x], r * 5 * channels
                                    grey = splat(np.float32(word & np.uint32(255)), channels)
                                    if word == (word & np.uint32(255)) * GREY:
                                        w += 4 * channels
                                        store(d_w, w, fma(grey, d_z, load(d_w, w, channels)))
                                    else:
                                        for k in range(4):
                                            grey = np.float32((word >> np.uint32(8 * k)) & np.uint32(255))
                                            i = w + k * channels
                                            store(d_w, i, fma(splat(grey, channels), d_z, load(d_w, i, channels)))
            store(d_w, last, d_all)
            store(d_bias[part], 0, d_sum)

    compile_for(forward, "u4 f1 f1 f5")
    compile_for(backward, "u4 f5 f5 f2 f2")
    return forward, backward


class _FirstConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pictures, weight, bias):
        channels, _, depth, side, _ = weight.shape
        batch, k, height, width = pictures.shape
        words = pictures.contiguous().numpy().view(np.uint32)
        w = (weight.detach() / 255).view(channels, depth * side, 4).permute(1, 2, 0)  # (words of a patch, 4, channels)
        w = torch.cat((w, w.sum(1, keepdim=True)), 1)  # (words, 5, channels), with the sum of a word's pixels
        w = torch.cat((w.flatten(), w[:, 4].sum(0)))  # (words * 5 + 1) * channels, with the sum of all
        out = weight.new_empty(batch, height // 4, width // 4, k // depth, channels)
        _kernels(4 * depth, channels)[0](words, w.numpy(), bias.detach().numpy(), out.numpy())
        ctx.words, ctx.shape = words, weight.shape
        ctx.save_for_backward(out)
        return out.permute(0, 4, 3, 1, 2)

    @staticmethod
    def backward(ctx, d_out):
        (out,), (channels, _, depth, _, _) = ctx.saved_tensors, ctx.shape
        parts = -(-len(out) // PART)
        d_w, d_bias = out.new_empty(parts, (20 * depth + 1) * channels), out.new_empty(parts, channels)
        d_out = d_out.permute(0, 3, 4, 2, 1).contiguous()
        _kernels(4 * depth, channels)[1](*(a.numpy() for a in (torch.from_numpy(ctx.words), out, d_out, d_w, d_bias)))
        d_w = d_w.sum(0) / 255
        rows = d_w[:-channels].view(4 * depth, 5, channels)
        d_weight = rows[:, :4] + rows[:, 4:] + d_w[-channels:]  # a pixel is in its own sum, its word's and that of all
        return None, d_weight.permute(2, 0, 1).reshape(ctx.shape), d_bias.sum(0)


def first_convolution(pictures, conv: nn.Conv3d):
    """Pictures uint8 [B, k, height, width] -> relu(conv(pictures / 255)), float32 [B, channels, depth, height, width].

    The convolution reads patches of 4 x 4 pixels that do not overlap.
    """
    if runs_compiled(pictures) and pictures.dtype == torch.uint8 and pictures.shape[3] % 4 == 0:
        return _FirstConvolution.apply(pictures, conv.weight, conv.bias)
    return torch.relu(conv(pictures.float().div_(255).unsqueeze(1)))


def convolution(x, conv: nn.Conv3d):
    """relu(conv(x)) for x [B, channels, depth, height, width]. Its kernels do not overlap along the depth.

    On CPUs it is a 2D convolution whose channels are those of all pictures of a kernel, which oneDNN computes faster.
    """
    if not runs_compiled(x):
        return torch.relu(conv(x))
    x = x.unflatten(2, (-1, conv.kernel_size[0])).permute(0, 2, 3, 1, 4, 5)  # (B, groups, depth, channels, ...)
    weight = conv.weight.transpose(1, 2).flatten(1, 2)
    y = nn.functional.conv2d(x.flatten(2, 3).flatten(0, 1), weight, conv.bias, conv.stride[1:], conv.padding[1:])
    return y.relu_().unflatten(0, x.shape[:2]).transpose(1, 2)
