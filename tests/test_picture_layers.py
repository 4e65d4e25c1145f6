"""Convolutions of pictures: the compiled ones against torch's, on pictures with large areas of one grey and without."""

import numpy as np
import pytest
import torch

from npp_rl.ppo_mlp_cnn import CNN
from npp_rl.training import picture_layers
from npp_rl.training.compiled_layers import padded_graphs

BATCH = 11  # more than one part


def pictures(k, height, width, seed=0):
    """Uint8 [BATCH, k, height, width]: areas of one grey with edges on and beside those of patches, dots, and noise."""
    rng = np.random.default_rng(seed)
    x = np.full((BATCH, k, height, width), 176, np.uint8)
    for b in range(BATCH):
        for _ in range(12):
            top, left = rng.integers(height), rng.integers(width)
            x[b, :, top : top + rng.integers(1, 24), left : left + rng.integers(1, 24)] = rng.integers(256)
        x[b, rng.integers(k), rng.integers(height), rng.integers(width)] = 255
    x[1] = rng.integers(0, 256, x[1].shape)
    x[2] = 0
    x[3, :, ::4] = 255
    return torch.from_numpy(x)


def gradients(network, x, direction):
    network.zero_grad()
    out = network(x)
    out.backward(direction)
    return out.detach(), [parameter.grad.clone() for parameter in network.parameters()]


SHAPES = [(4, 84, 84, (8, 16, 32)), (1, 100, 176, (8, 16, 32)), (12, 44, 40, (4, 6, 8)), (2, 30, 20, (5, 6, 7))]


@pytest.mark.parametrize(("k", "height", "width", "channels"), SHAPES)
def test_a_cnn_equals_torchs(k, height, width, channels):
    torch.manual_seed(0)
    network, x = CNN((k, height // 4 * 4, width), channels, 10), pictures(k, height, width)
    x = x[:, :, : height // 4 * 4].contiguous()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    direction = torch.randn(BATCH, 10)
    out, ours = gradients(network, x, direction)
    with padded_graphs():
        expected, plain = gradients(network, x, direction)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    for name, a, b in zip(dict(network.named_parameters()), ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5 * float(b.abs().max()), msg=lambda m, n=name: f"{n}: {m}")
        assert b.any()


def test_the_first_convolution_is_the_compiled_one_where_it_can_be(monkeypatch):
    """Not in mixed precision, in a trace, or for rows of pixels that are no whole words."""
    calls = []
    kernels = picture_layers._kernels
    monkeypatch.setattr(picture_layers, "_kernels", lambda *key: calls.append(key) or kernels(*key))
    network, x = CNN((1, 100, 176), (8, 16, 32), 10), pictures(1, 100, 176)
    with torch.no_grad():
        expected = network(x)
        assert calls == [(4, 8)]
        with padded_graphs():
            torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(network(x).float(), expected, rtol=0.1, atol=0.1)
        conv = network.convs[0]
        narrow = picture_layers.first_convolution(x[:, :, :, :174], conv)
    assert calls == [(4, 8)]
    torch.testing.assert_close(narrow, torch.relu(conv(x[:, :, :, :174].float().div(255).unsqueeze(1))))


def test_half_of_the_patches_of_a_level_hold_one_grey():
    """What the kernel skips is there: in generated levels too."""
    from npp_rl.environment.env import NppVectorEnv
    from npp_rl.levels.generator import generate

    envs = NppVectorEnv(num_envs=2, levels=[generate("simple", 0)], observations=("player_frames", "global_view"))
    for array in envs.reset(seed=0)[0].values():
        rows = array[..., : array.shape[-2] // 4 * 4, :]
        patches = rows.reshape(*rows.shape[:-2], rows.shape[-2] // 4, 4, -1, 4)
        one_grey = (patches == patches[..., :1, :, :1]).all((-3, -1))
        assert one_grey.mean() > 0.5
    envs.close()
