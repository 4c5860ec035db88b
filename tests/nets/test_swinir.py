"""SwinIR: windows, shifts and padding against plain loops, and what its options promise."""

import pytest
import torch
import torch.nn.functional as F

from refusion.errors import ConfigError
from refusion.nets.swinir import APART, SwinIR, shift_mask, window_partition, window_reverse

TINY = {
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
    "unshuffle": 2,
    "num_feat": 6,
    "img_size": 8,
}


def build(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = SwinIR(**TINY | changes).eval()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return net.requires_grad_(False)


def photo(height, width, batch=1, seed=1):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_windows_hold_neighbours_and_go_back():
    x = torch.arange(2 * 8 * 12 * 3).reshape(2, 8, 12, 3)
    windows = window_partition(x, 4)
    assert windows.shape == (2 * 2 * 3, 16, 3)
    assert torch.equal(windows[4], x[0, 4:8, 4:8].reshape(16, 3))
    assert torch.equal(window_reverse(windows, 4, 8, 12), x)


@pytest.mark.parametrize("size", [(8, 8), (4, 12), (12, 8)])
def test_the_mask_keeps_apart_what_the_shift_brought_together(size):
    """Brute force: two pixels see each other unless the roll carried one of them around."""
    (height, width), side, shift = size, 4, 2
    mask = shift_mask(height, width, side)
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    around = torch.stack([row + shift >= height, column + shift >= width], dim=-1)
    windows = window_partition(around[None].long(), side)
    for window, seen in zip(windows, mask, strict=True):
        for i in range(side**2):
            for j in range(side**2):
                expected = 0.0 if torch.equal(window[i], window[j]) else APART
                assert seen[i, j] == expected


def reference(state, x):
    """The published computation for `TINY`, pixel by pixel in the windows, from its tensors."""
    mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)

    def conv(x, name):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x, name):
        return F.layer_norm(x, (8,), state[f"{name}.weight"], state[f"{name}.bias"])

    def attend(x, name, heads, shift):
        _, h, w, _ = x.shape
        qkv, out = linear(x, f"{name}.qkv"), torch.zeros_like(x)
        table = state[f"{name}.relative_position_bias_table"]
        for r in range(h):
            for c in range(w):
                # Windows of the map rolled back by the shift, cut off at its borders.
                top, left = ((v - shift) // 4 * 4 + shift for v in (r, c))
                rows = [v for v in range(top, top + 4) if 0 <= v < h]
                columns = [v for v in range(left, left + 4) if 0 <= v < w]
                places = [(a, b) for a in rows for b in columns]
                near = torch.stack([qkv[:, a, b] for a, b in places], dim=1)
                bias = torch.stack([table[(r - a + 3) * 7 + c - b + 3] for a, b in places])
                q, k, v = qkv[:, r, c, :8], near[..., 8:16], near[..., 16:]
                parts = []
                for head in range(heads):
                    own = slice(head * 8 // heads, (head + 1) * 8 // heads)
                    scores = (k[..., own] @ q[0, own]) * (8 / heads) ** -0.5 + bias[:, head]
                    parts.append((scores.softmax(-1)[..., None] * v[..., own]).sum(1))
                out[:, r, c] = torch.cat(parts, dim=-1)
        return linear(out, f"{name}.proj")

    x = first = conv(F.pixel_unshuffle(x - mean, 2), "conv_first.1")
    x = norm(x.permute(0, 2, 3, 1), "patch_embed.norm")
    for group, heads in enumerate((2, 4)):
        y = x
        for number in range(2):
            name = f"layers.{group}.residual_group.blocks.{number}"
            y = y + attend(norm(y, f"{name}.norm1"), f"{name}.attn", heads, 2 * number)
            hidden = F.gelu(linear(norm(y, f"{name}.norm2"), f"{name}.mlp.fc1"))
            y = y + linear(hidden, f"{name}.mlp.fc2")
        x = x + conv(y.permute(0, 3, 1, 2), f"layers.{group}.conv").permute(0, 2, 3, 1)
    x = conv(norm(x, "norm").permute(0, 3, 1, 2), "conv_after_body") + first
    x = F.leaky_relu(conv(x, "conv_before_upsample.0"), 0.01)
    x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2), "conv_up1"), 0.2)
    return conv(F.leaky_relu(conv(x, "conv_hr"), 0.2), "conv_last") + mean


@pytest.mark.parametrize("size", [(16, 16), (8, 24)])
def test_the_network_is_the_published_computation(size):
    net, x = build(), photo(*size)
    torch.testing.assert_close(net(x), reference(net.state_dict(), x), rtol=1e-4, atol=1e-5)


def test_padding_is_a_reflection_to_whole_windows():
    net, x = build(), photo(13, 18)
    padded = F.pad(x, (0, 6, 0, 3), mode="reflect")
    torch.testing.assert_close(net(x), net(padded)[..., :13, :18])


def test_the_official_layout_has_as_many_names_and_values():
    with torch.device("meta"):
        net = SwinIR()
    assert len(net.state_dict()) == 732
    assert sum(p.numel() for p in net.parameters()) == 15_792_587
    assert net.state_dict()["conv_first.1.weight"].shape == (180, 192, 3, 3)


@pytest.mark.parametrize("upsampler", ["nearest+conv", "pixelshuffledirect"])
def test_with_residual_training_begins_with_the_photo_itself(upsampler):
    net, x = SwinIR(**TINY | {"residual": True, "upsampler": upsampler}), photo(9, 14)
    assert torch.equal(net(x), x)
    assert net.last.weight.requires_grad


def test_what_a_file_says_of_masks_and_places_is_not_believed():
    net, x = build(), photo(16, 16)
    expected = net(x)
    for name, buffer in net.named_buffers():
        if name != "mean":
            buffer.fill_(10**6)
    assert torch.equal(net(x), expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": [2]}, "one number of heads per group"),
        ({"num_heads": [3, 3]}, "divisors of embed_dim"),
        ({"unshuffle": 3}, "unshuffle: expected a power of two"),
        ({"upsampler": "bicubic"}, "upsampler: expected one of nearest"),
        ({"img_size": 6}, "img_size, window_size"),
    ],
)
def test_settings_that_make_no_network(changes, words):
    with pytest.raises(ConfigError, match=words):
        SwinIR(**TINY | changes)
