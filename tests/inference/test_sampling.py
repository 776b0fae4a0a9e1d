import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from promptcot_assets.inference import sampling
from promptcot_assets.inference.sampling import BLOCK, LARGE, choose, uniforms

MASK = (1 << 64) - 1


def splitmix64(state: int) -> int:
    """The published finaliser, in Python's own integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


@given(st.integers(0, MASK), st.integers(0, 100_000))
def test_uniforms_are_splitmix64_of_seed_and_position(seed: int, position: int) -> None:
    state = (splitmix64(seed) + (position + 1) * 0x9E3779B97F4A7C15) & MASK
    assert uniforms(np.array([seed], dtype=np.uint64), position)[0] == (splitmix64(state) >> 12) / 2**52


def test_uniforms_are_uniform_along_rows_and_along_positions() -> None:
    seeds = np.arange(20_000, dtype=np.uint64)  # neighbouring seeds, the worst a caller gives
    along_rows = uniforms(seeds, 0)
    along_positions = np.array([uniforms(seeds[:1], position)[0] for position in range(20_000)])
    for sample in (along_rows, along_positions):
        assert stats.kstest(sample, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(along_rows, uniforms(seeds, 1))[0, 1]) < 0.03


def test_noise_of_a_row_does_not_depend_on_its_neighbours() -> None:
    seeds = np.array([7, 8, 9], dtype=np.uint64)
    assert uniforms(seeds, 3)[1] == uniforms(seeds[1:2], 3)[0]


logits_rows = st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=12)


@given(logits_rows, st.floats(0, 1, exclude_max=True), st.sampled_from([0.1, 0.7, 1.0, 2.5]), st.floats(0.05, 1.0))
@settings(max_examples=200, deadline=None)
def test_a_chosen_token_is_in_the_nucleus_and_carries_its_raw_log_probability(
    row: list[float], noise: float, temperature: float, top_p: float
) -> None:
    logits = torch.tensor([row])
    token, logprob = choose(logits, torch.tensor([noise], dtype=torch.float64), temperature, top_p)
    chosen = int(token[0])
    assert logprob[0].item() == pytest.approx(logits.log_softmax(-1)[0, chosen].item(), abs=1e-5)
    tempered = (logits[0].double() / temperature).softmax(-1)
    likelier = tempered[tempered > tempered[chosen] * (1 + 1e-5)].sum().item()
    assert likelier < top_p + 1e-5  # else the nucleus is full before this token
    assert tempered[chosen] > 0


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.25, 1.0), (1.0, 0.8), (0.6, 0.95)])
def test_frequencies_are_the_exact_probabilities(temperature: float, top_p: float) -> None:
    logits = torch.tensor([2.0, 1.5, 0.5, 0.0, -1.0, -2.0])
    draws = 40_000
    noise = torch.from_numpy(uniforms(np.arange(draws, dtype=np.uint64), 5))
    token, _ = choose(logits.expand(draws, -1), noise, temperature, top_p)

    exact = (logits.double() / temperature).softmax(-1).numpy()
    kept = exact.cumsum() - exact < top_p  # already in falling order
    exact = np.where(kept, exact, 0) / exact[kept].sum()
    counts = np.bincount(token.numpy(), minlength=len(exact))
    assert counts[~kept].sum() == 0
    assert stats.chisquare(counts[kept], draws * exact[kept]).pvalue > 1e-3


def test_greedy_takes_the_first_of_the_likeliest_whatever_the_noise() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0], [5.0, 1.0, 2.0]])
    for noise in (0.0, 0.999):
        token, logprob = choose(logits, torch.full((2,), noise, dtype=torch.float64), 0, 1.0)
        assert token.tolist() == [1, 0]
        assert logprob[1].item() == pytest.approx(logits[1].log_softmax(-1)[0].item())


def test_extreme_noise_and_impossible_tokens_stay_in_range() -> None:
    logits = torch.tensor([[-float("inf"), 0.0, 0.0, -float("inf")]])
    for noise in (0.0, 1 - 2.0**-52):
        token, _ = choose(logits, torch.tensor([noise], dtype=torch.float64), 1.0, 1.0)
        assert int(token[0]) in (1, 2)


def test_low_temperature_does_not_underflow() -> None:
    token, _ = choose(torch.tensor([[-900.0, -1000.0]]), torch.tensor([0.5], dtype=torch.float64), 0.01, 1.0)
    assert int(token[0]) == 0


@pytest.mark.parametrize("size", [LARGE, LARGE + BLOCK, 3 * LARGE + 1])
@pytest.mark.parametrize("spread", [0.1, 3.0, 60.0])  # of the last most weights are zero in float32
def test_of_a_large_vocabulary_the_same_token_is_chosen(size: int, spread: float) -> None:
    rng = np.random.default_rng(size)
    logits = torch.from_numpy((spread * rng.standard_normal((200, size))).astype(np.float32))
    noise = torch.from_numpy(np.concatenate([[0.0, 1 - 2**-52], rng.random(198)]))
    token, _ = choose(logits, noise, 1.0, 1.0)
    weights = (logits - logits.max(-1, keepdim=True).values).exp().double().numpy()
    upto = weights.cumsum(-1)
    rows = np.arange(len(token))
    chosen, threshold = token.numpy(), noise.numpy() * upto[:, -1]
    assert (weights[rows, chosen] > 0).all()
    assert (upto[rows, chosen] > threshold - 1e-9 * upto[:, -1]).all()
    assert (upto[rows, chosen] - weights[rows, chosen] <= threshold + 1e-9 * upto[:, -1]).all()


def test_summed_in_blocks_a_large_vocabulary_gives_what_the_whole_sum_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    weights = torch.from_numpy(rng.random((2000, LARGE)).astype(np.float32))
    noise = torch.from_numpy(rng.random(2000))
    calls = []
    first_above = sampling._first_above
    monkeypatch.setattr(sampling, "_first_above", lambda *given: calls.append(given) or first_above(*given))
    in_blocks = sampling._inverse_cdf(weights, noise)
    assert [one.shape[-1] for one, _ in calls] == [LARGE // BLOCK, BLOCK]
    monkeypatch.setattr(sampling, "LARGE", LARGE + 1)
    assert torch.equal(in_blocks, sampling._inverse_cdf(weights, noise))


def test_at_the_edge_of_a_block_no_token_of_weight_zero_is_chosen() -> None:
    """A block's weights may add up to a last digit more or less along a row than at once."""
    rng = np.random.default_rng(2)
    weights = np.exp(3 * rng.standard_normal((64, LARGE))).astype(np.float32)
    weights.reshape(64, -1, BLOCK)[..., 100:] = 0  # what follows the last weight of a block is nothing
    rows = torch.from_numpy(weights)
    upto = rows.unflatten(-1, (-1, BLOCK)).sum(-1, dtype=torch.float64).cumsum(-1)
    edges = (upto / upto[:, -1:])[:, :-1]
    for noise in (edges, torch.nextafter(edges, edges * 0), torch.nextafter(edges, edges * 0 + 1)):
        for block in range(noise.shape[1]):
            token = sampling._inverse_cdf(rows, noise[:, block].contiguous())
            assert bool((rows.gather(-1, token[:, None]) > 0).all())


def test_no_rows_are_no_tokens() -> None:
    token, logprob = choose(torch.zeros(0, LARGE), torch.zeros(0, dtype=torch.float64), 1.0, 1.0)
    assert len(token) == len(logprob) == 0


def test_a_row_of_nan_is_no_index_error() -> None:
    token, logprob = choose(torch.full((1, LARGE), torch.nan), torch.zeros(1, dtype=torch.float64), 1.0, 1.0)
    assert 0 <= int(token[0]) < LARGE and torch.isnan(logprob[0])
