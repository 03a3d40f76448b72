"""Batches: cut first, shared out after; nothing dropped, nothing padded, nothing that depends on who computes."""

from hypothesis import given
from hypothesis import strategies as st

from src.data.order import BatchOrder, Pick, random_of

SIZES = {
    "count": st.integers(1, 70),
    "batch_size": st.integers(1, 40),
    "world": st.integers(1, 4),
    "parts": st.integers(1, 3),
}


@given(**SIZES, epoch=st.integers(0, 3), seed=st.none() | st.integers(0, 5))
def test_every_example_counts_once_and_batches_are_the_same_for_any_devices(
    count: int, batch_size: int, world: int, parts: int, epoch: int, seed: int | None
) -> None:
    def batches(rank: int, world: int, parts: int) -> list[list[Pick]]:
        order = BatchOrder(count, batch_size, seed=seed, rank=rank, world=world, parts=parts)
        order.sampler.set_epoch(epoch)
        found = list(order)
        assert len(found) == len(order)
        return found

    alone = [[pick.example for pick in batch] for batch in batches(0, 1, 1)]
    assert sorted(example for batch in alone for example in batch) == list(range(count))
    ranks = [batches(rank, world, parts) for rank in range(world)]
    assert all(share for found in ranks for share in found)
    for number, whole in enumerate(alone):
        shares = [found[number * parts + part] for found in ranks for part in range(parts)]
        counted = [pick for share in shares for pick in share if pick.weight]
        assert sorted(pick.example for pick in counted) == sorted(whole)
        assert {pick.total for share in shares for pick in share} == {len(whole)}


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = BatchOrder(50, 8, seed=seed)
        batches.set_epoch(epoch)
        return [pick.example for batch in batches for pick in batch]

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_generators_of_different_purposes_are_independent() -> None:
    drawn = {
        random_of(s, p, e, x).integers(1 << 60)
        for s in (0, 1)
        for p in ("order", "augment")
        for e in (0, 1)
        for x in (0, 1)
    }
    assert len(drawn) == 16
