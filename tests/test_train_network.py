"""The batched network: equal to torch.nn, member by member; fused kernels equal to autograd; blocks do not matter."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from xflux.train.grid import Rows  # noqa: E402
from xflux.train.network import ACTIVATIONS, Network, blocks  # noqa: E402


def rows(pixels, drivers, steps, seed=0, dtype=np.float32):
    return torch.tensor(np.random.default_rng(seed).normal(size=(pixels, drivers, steps)).astype(dtype))


def sequential(network, member):
    """The member as a torch.nn.Sequential."""
    layers = []
    for weight, bias in network.layers:
        linear = torch.nn.Linear(*weight.shape[1:], dtype=weight.dtype)
        linear.weight.data, linear.bias.data = weight[member].detach().T.clone(), bias[member, 0].detach().clone()
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def test_equals_sequential_networks():
    network = Network((4, 16, 16, 1), [(0, 0), (0, 1)], dtype=torch.float64)
    x = torch.randn(2, 50, 4, dtype=torch.float64)
    for member in range(2):
        assert torch.allclose(network(x)[member], sequential(network, member)(x[member]), atol=1e-14)


def test_initial_weights_have_torch_linears_bounds_and_depend_on_the_member_alone():
    a = Network((64, 200, 1), [(3, 0), (3, 1), (3, 7)])
    b = Network((64, 200, 1), [(3, 7)])
    weight = a.layers[0][0].detach()
    assert weight.abs().max() <= 1 / 8 and weight.abs().max() > 0.124
    assert weight.std().item() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.02)
    assert torch.equal(a.layers[0][0][2], b.layers[0][0][0])
    assert not torch.equal(a.layers[0][0][0], a.layers[0][0][1])


def at_a_kink(network, member, x):
    """Rows of which a hidden unit is so near its kink that rounding may switch it, and with it the slopes."""
    near = torch.zeros(len(x), dtype=torch.bool)
    h = x.double()
    for weight, bias in network.layers[:-1]:
        z = h @ weight[member].detach() + bias[member].detach()
        near |= (z.abs() < 1e-5).any(1)
        h = z.relu()
    return near


@settings(max_examples=8, deadline=None)
@given(
    members=st.integers(1, 3),
    drivers=st.integers(1, 11),
    hidden=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    steps=st.sampled_from([1, 5, 12, 365]),
    pixels=st.integers(1, 60),
    targets=st.integers(1, 2),
)
def test_fused_kernels_equal_autograd(members, drivers, hidden, steps, pixels, targets):
    values, at = rows(90, drivers, steps), torch.randint(0, 90, (members, pixels), generator=torch.manual_seed(1))
    slope = torch.randn(members, targets, pixels * steps, generator=torch.manual_seed(2))
    exact = Network((drivers, *hidden, targets), [(0, m) for m in range(members)], dtype=torch.float64)
    for member in range(members):
        slope[member, :, at_a_kink(exact, member, values[at[member]].transpose(1, 2).flatten(0, 1))] = 0
    found = {}
    for fuse, dtype in ((True, torch.float32), (False, torch.float64)):
        sizes = (drivers, *hidden, targets)
        network = Network(sizes, [(0, m) for m in range(members)], dtype=dtype, block_rows=64, fuse=fuse)
        out = network.outputs(values.to(dtype), at)
        network.accumulate(values.to(dtype), at, slope.to(dtype))
        found[fuse] = [out.double()] + [p.grad.double() for p in network.parameters]
    for a, b in zip(found[True], found[False], strict=True):
        assert torch.linalg.norm(a - b) <= 1e-5 * torch.linalg.norm(b) + 1e-6


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("targets", [1, 2])
def test_errors_in_one_pass_are_those_of_two(targets, fuse):
    values, at = rows(700, 5, 1), torch.randint(0, 700, (3, 500), generator=torch.manual_seed(0))
    observed, scale = torch.randn(700, targets), torch.rand(3, targets)
    observed[::7, 0] = torch.nan
    counts, found = torch.isfinite(observed) * torch.rand(700, 1), []
    columns = torch.cat([values, observed[..., None], counts[..., None]], 1)
    table = Rows([([0, 1, 2, 3, 4], columns, torch.zeros((1, 1), dtype=int))], 5)
    for passes in (1, 2):
        network = Network((5, 16, targets), [(0, m) for m in range(3)], fuse=fuse)
        if passes == 1:
            error = network.errors(table, at, scale)
        else:
            error = (network.outputs(values, at) - observed[at].transpose(1, 2)).nan_to_num(0.0)
            network.accumulate(values, at, error * counts[at].transpose(1, 2) * scale[..., None])
        found.append([error] + [p.grad for p in network.parameters])
    same = torch.equal if fuse else lambda a, b: torch.allclose(a, b, atol=1e-5)
    assert all(same(a, b) for a, b in zip(*found, strict=True)) and found[0][0].any()


def test_float32_gradient_of_a_step_agrees_to_1e5():
    values, at = rows(3000, 10, 12), torch.arange(3000)[None]
    slope = torch.ones(4, 1, 36000) / 36000
    grads = []
    for dtype in (torch.float32, torch.float64):
        network = Network((10, 32, 32, 32, 1), [(0, m) for m in range(4)], dtype=dtype)
        network.accumulate(values.to(dtype), at, slope.to(dtype))
        grads.append(torch.cat([p.grad.double().flatten() for p in network.parameters]))
    assert torch.linalg.norm(grads[0] - grads[1]) / torch.linalg.norm(grads[1]) < 1e-5


def test_fused_result_does_not_depend_on_threads():
    values, at = rows(500, 5, 12), torch.randint(0, 500, (3, 900), generator=torch.manual_seed(0))
    slope, before, grads = torch.randn(3, 1, 900 * 12), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            network = Network((5, 32, 32, 1), [(0, m) for m in range(3)])
            network.accumulate(values, at, slope)
            grads.append([p.grad for p in network.parameters])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_blocks_do_not_matter(activation):
    values, at, slope = rows(40, 3, 4, dtype=np.float64), torch.arange(40)[None], torch.randn(2, 1, 160).double()
    found = []
    for size in (7, 1000):
        network = Network((3, 8, 8, 1), [(0, 0), (0, 1)], activation, dtype=torch.float64, block_rows=size)
        out = network.outputs(values, at)
        network.accumulate(values, at, slope)
        found.append([out] + [p.grad for p in network.parameters])
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(*found, strict=True))


def test_dropout_is_the_same_in_both_passes_and_off_without_seeds():
    values, at = rows(30, 3, 2, dtype=np.float64), torch.arange(30)[None]
    network = Network((3, 16, 1), [(0, 0), (0, 1)], dropout=0.5, dtype=torch.float64, block_rows=8)
    assert torch.equal(network.outputs(values, at, [1, 2]), network.outputs(values, at, [1, 2]))
    assert not torch.equal(network.outputs(values, at, [1, 2]), network.outputs(values, at, [3, 4]))
    assert torch.equal(network.outputs(values, at), network.outputs(values, at))
    single = Network((3, 16, 1), [(0, 1)], dropout=0.5, dtype=torch.float64, block_rows=8)
    assert torch.equal(network.outputs(values, at, [1, 2])[1:], single.outputs(values, at, [2]))


def test_unknown_activation_is_named():
    with pytest.raises(ValueError, match=r"activation is 'swoosh'.*relu"):
        Network((2, 2, 1), [(0, 0)], "swoosh")


def test_blocks_cover_once():
    covered = np.concatenate([np.arange(10)[part] for part in blocks(10, 3)])
    assert covered.tolist() == list(range(10))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices_agree():
    values, at, slope = rows(300, 5, 12), torch.arange(300)[None], torch.randn(2, 1, 3600)
    found = []
    for device in ("cpu", "cuda"):
        network = Network((5, 32, 32, 1), [(0, 0), (0, 1)], device=device)
        out = network.outputs(values.to(device), at.to(device))
        network.accumulate(values.to(device), at.to(device), slope.to(device))
        found.append([out.cpu()] + [p.grad.cpu() for p in network.parameters])
    for a, b in zip(*found, strict=True):
        assert torch.linalg.norm(a - b) <= 1e-4 * torch.linalg.norm(a)
