"""Products of bf16 and fp16 by fp32 ones: what torch's own give, with the gradients."""

import pytest
import torch
import torch.nn.functional as F

import core.parallel.narrow_products as widened


def _results(function, dtype: torch.dtype, with_bias: bool) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype).requires_grad_()

    values, weight, bias = leaf(3, 5, 16), leaf(8, 16), leaf(8) if with_bias else None
    result = function(values, weight, bias)
    (result.float() * torch.linspace(-1, 1, 8)).sum().backward()
    return [result, values.grad, weight.grad] + ([bias.grad] if with_bias else [])


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_agrees_with_torch_to_the_last_place(dtype, with_bias, monkeypatch):
    monkeypatch.setattr(widened, "has_products", lambda dtype: False)
    ours, theirs = _results(widened.linear, dtype, with_bias), _results(F.linear, dtype, with_bias)
    step = torch.finfo(dtype).eps
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == dtype and one.shape == other.shape
        torch.testing.assert_close(one.float(), other.float(), rtol=2 * step, atol=step)


def test_what_the_processor_has_is_used(monkeypatch):
    calls = []
    monkeypatch.setattr(widened.Widened, "apply", lambda *arguments: calls.append(arguments))
    values = torch.randn(2, 4)
    assert torch.equal(widened.linear(values, values), F.linear(values, values))
    monkeypatch.setattr(widened, "has_products", lambda dtype: dtype != torch.bfloat16)
    widened.linear(values.bfloat16(), values.bfloat16())
    assert len(calls) == 1


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("with_bias", [True, False])
def test_without_gradients_a_rows_digits_do_not_depend_on_the_others(with_bias):
    """Of many rows, and of parts of them, in two and three dimensions; what computes is oneDNN."""
    generator = torch.Generator().manual_seed(2)
    values, weight = torch.randn(200, 48, generator=generator), torch.randn(100, 48, generator=generator)
    bias = torch.randn(100, generator=generator) if with_bias else None
    with torch.profiler.profile() as profile, torch.inference_mode():
        whole = widened.linear(values, weight, bias)
        for rows in (16, 17, 64, 120):
            assert torch.equal(widened.linear(values[:rows], weight, bias), whole[:rows])
        assert torch.equal(widened.linear(values.view(10, 20, 48), weight, bias), whole.view(10, 20, 100))
    assert {event.key for event in profile.key_averages()} >= {"mkldnn::_linear_pointwise"}
    torch.testing.assert_close(whole, F.linear(values, weight, bias), rtol=1e-5, atol=1e-5)
    assert widened.linear(values.requires_grad_(), weight, bias).requires_grad


@pytest.mark.parametrize("approximate", ["tanh", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_of_a_product(approximate, dtype):
    """Against fp64, as exact as torch's two steps; fp32 in a single one of oneDNN's."""
    generator = torch.Generator().manual_seed(3)
    values, weight, bias = (torch.randn(*size, generator=generator) for size in ((40, 64), (96, 64), (96,)))
    narrow = [tensor.to(dtype) for tensor in (values, weight, bias)]
    exact = F.gelu(F.linear(*[tensor.double() for tensor in narrow]), approximate=approximate)
    with torch.profiler.profile() as profile, torch.inference_mode():
        found = widened.linear_gelu(*narrow, approximate)
    tolerance = 2e-5 if dtype == torch.float32 else 0.15
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=tolerance)
    assert found.dtype == dtype
    onednn = torch.backends.mkldnn.is_available() and dtype == torch.float32
    assert ("aten::gelu" in {event.key for event in profile.key_averages()}) != onednn


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_compiler_sees_one_graph(dtype):
    values, weight = torch.randn(3, 4, dtype=dtype), torch.randn(5, 4, dtype=dtype, requires_grad=True)
    torch._dynamo.reset()
    assert torch._dynamo.explain(widened.linear)(values, weight).graph_break_count == 0
