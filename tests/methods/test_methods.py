"""What every method promises: the split, what it trains, its intermediates."""

from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import ParallelScalingBlock
from torch import Tensor

from src.methods import Finetune, Linear, Lora, Method, Toast, UnsupportedBackbone, Vpt
from src.methods.vit import embed
from src.training.noise import draw_noise
from tests.methods.conftest import make_backbone

METHODS = {
    "linear": Linear,
    "finetune": Finetune,
    "vpt_deep": partial(Vpt, prompts=3, prompt_dropout=0.2),
    "vpt_shallow": partial(Vpt, prompts=3, deep=False),
    "lora": Lora,
    "lora_parts": partial(Lora, projections=["query", "value", "proj", "fc1", "fc2"]),
    "toast": Toast,
    "toast_lite": partial(Toast, rank=2, train_channel_transform=True),
    "toast_late": partial(Toast, first_block=None),
    "no_token_selection": partial(Toast, token_selection=False),
    "no_channel_selection": partial(Toast, channel_selection=False),
}
IMAGES = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 3, 0])


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    made: Method = METHODS[request.param](make_backbone(), 4, drop_path=0.3, seed=7)
    return made


def noise_of(method: Method) -> dict[str, Tensor]:
    return draw_noise(method.noise(), seed=0, epoch=3, examples=torch.arange(len(IMAGES)))


def test_gradients_reach_what_is_trained_and_nothing_else(method: Method) -> None:
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    F.cross_entropy(method(IMAGES, noise_of(method)).logits, LABELS).backward()
    have = {name for name, value in method.named_parameters() if value.grad is not None}
    assert have == set(method.trained())
    optimiser = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    optimiser.step()
    changed = {name for name, value in method.named_parameters() if not torch.equal(value, before[name])}
    # B of a low-rank pair starts at zero, so A gets its first non-zero gradient a step later.
    assert changed | {name for name in have if name.endswith(".a")} == have


def test_frozen_part_keeps_no_graph_and_no_trained_parameter(method: Method) -> None:
    features = method.frozen(IMAGES, noise_of(method))
    assert not any(value.requires_grad for value in features.values())
    assert all(len(value) == len(IMAGES) for value in features.values())
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name in method.trained():
                parameter.add_(1.0)
    again = method.frozen(IMAGES, noise_of(method))
    assert features.keys() == again.keys()
    assert all(torch.equal(features[name], again[name]) for name in features)


def test_an_example_does_not_depend_on_its_batch(method: Method) -> None:
    noise = noise_of(method)
    whole = method(IMAGES, noise).logits
    alone = method(IMAGES[3:4], {name: value[3:4] for name, value in noise.items()}).logits
    torch.testing.assert_close(alone, whole[3:4], rtol=1e-4, atol=1e-5)


def test_without_noise_drop_path_is_off(method: Method) -> None:
    plain = type(method)
    assert torch.equal(method(IMAGES).logits, method(IMAGES, {}).logits)
    assert not torch.equal(method(IMAGES, noise_of(method)).logits, method(IMAGES).logits), plain


def test_an_unknown_intermediate_is_an_error(method: Method) -> None:
    with pytest.raises(KeyError, match="pass9"):
        method(IMAGES, want=["pass9.norm"])


def test_stepping_through_is_timms_own_forward() -> None:
    for options in (
        {},
        {"init_values": 0.5, "qk_norm": True, "reg_tokens": 2, "pre_norm": True},
        {"no_embed_class": True},
    ):
        backbone = make_backbone(**options)
        method = Linear(backbone, 4)
        tokens = method(IMAGES, want=["pass1.norm"]).intermediates["pass1.norm"]
        torch.testing.assert_close(tokens, backbone.forward_features(IMAGES), rtol=1e-4, atol=1e-5)


def test_attention_on_request_changes_no_output(method: Method) -> None:
    name = f"pass{method.passes}.block{method.depth - 1}.attention"
    output = method(IMAGES, want=[name])
    attention = output.intermediates[name]
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    torch.testing.assert_close(output.logits, method(IMAGES).logits, rtol=1e-4, atol=1e-5)


def late_twin(method: Toast, images: Tensor, noise: dict[str, Tensor]) -> Tensor:
    """Late without sharing: both passes run whole, block by block, as the authors' two-pass model does."""
    from src.methods.vit import Trace, run_block

    def factors(number: int, place: int) -> Tensor:
        return noise["drop_path"][:, number, place]

    x = embed(method.backbone, images)
    for place, block in enumerate(method.backbone.blocks):
        x = run_block(block, x, factors=factors(0, place))
    signals = method.feed_back(method.select(method.backbone.norm(x), Trace()), Trace())
    x = embed(method.backbone, images)
    for place, block in enumerate(method.backbone.blocks):
        if place in signals:
            x = run_block(block, x, signal=signals[place], value_biases=method.value_biases, factors=factors(1, place))
        else:
            x = run_block(block, x, factors=factors(0, place))
    logits: Tensor = method.head(method.backbone.norm(x)[:, 0])
    return logits


@pytest.mark.parametrize("first_block", [0, 1, 4, 5, None, -2])
def test_late_equals_a_second_pass_run_whole(first_block: int | None) -> None:
    method = Toast(make_backbone(), 4, first_block=first_block, drop_path=0.3, seed=2)
    noise = noise_of(method)
    assert torch.equal(method(IMAGES, noise).logits, late_twin(method, IMAGES, noise))


def test_late_enters_at_two_thirds_of_the_depth() -> None:
    assert Toast(make_backbone(depth=12), 4, first_block=None).first_block == 8
    assert Toast(make_backbone(depth=24), 4, first_block=None).first_block == 16
    with pytest.raises(ValueError, match="first_block"):
        Toast(make_backbone(), 4, first_block=6)


@pytest.mark.parametrize("projections", [["qkv"], ["query", "value"], ["key", "proj", "fc1", "fc2"]])
def test_lora_merges_and_twice_is_once(projections: list[str]) -> None:
    method = Lora(make_backbone(), 4, rank=2, projections=projections).double()
    with torch.no_grad():
        for update in method.updates.parameters():
            update.add_(0.1 * torch.randn_like(update))
    images = IMAGES.double()
    before = method(images).logits
    plain = Linear(method.backbone, 4).double()
    plain.head = method.head
    assert (plain(images).logits - before).abs().max() > 1e-3
    method.merge()
    method.merge()
    torch.testing.assert_close(method(images).logits, before, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(plain(images).logits, before, rtol=1e-10, atol=1e-12)


def test_ablations_leave_out_what_they_name() -> None:
    without_tokens = Toast(make_backbone(), 4, token_selection=False, seed=1)
    assert "task_embedding" not in without_tokens.trained()
    selected = without_tokens(IMAGES, want=["selected", "pass1.norm"]).intermediates
    torch.testing.assert_close(selected["selected"], selected["pass1.norm"])
    without_channels = Toast(make_backbone(), 4, channel_selection=False, train_channel_transform=True)
    assert set(without_channels.trained()) == {"task_embedding", "head.weight", "head.bias"}


def test_other_blocks_are_refused_with_the_reason() -> None:
    cases = {
        "class token": make_backbone(class_token=False, global_pool="avg"),
        "pools": make_backbone(global_pool="avg"),
        "drop path": make_backbone(drop_path_rate=0.1),
        "ParallelScalingBlock": make_backbone(block_fn=ParallelScalingBlock),
        "not timm's VisionTransformer": timm.create_model("test_convnext"),
    }
    for reason, backbone in cases.items():
        with pytest.raises(UnsupportedBackbone, match=reason):
            Linear(backbone, 4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((Toast, {}), 14_156_544),
        ((Toast, {"train_channel_transform": True}), 14_746_368),
        ((Toast, {"rank": 4, "train_channel_transform": True}), 738_048),
        ((Toast, {"first_block": None}), 4_719_360),
        ((Lora, {}), 147_456),
        ((Vpt, {"prompts": 100}), 921_600),
        ((Vpt, {"prompts": 100, "deep": False}), 76_800),
        ((Linear, {}), 0),
        ((Finetune, {}), 85_798_656),
    ],
    ids=lambda value: None if isinstance(value, int) else f"{value[0].__name__}-{value[1]}",
)
def test_trained_parameters_at_vit_b(options: tuple[type[Method], dict[str, object]], expected: int) -> None:
    method = options[0](vit_b(), 200, **options[1])  # type: ignore[arg-type]
    parameters = dict(method.named_parameters())
    sizes = {name: parameters[name].numel() for name in method.trained()}
    assert sum(size for name, size in sizes.items() if not name.startswith("head.")) == expected
    assert sizes["head.weight"] + sizes["head.bias"] == 153_800


def vit_b() -> torch.nn.Module:
    model: torch.nn.Module = timm.create_model("vit_base_patch16_224", num_classes=0, device="meta")
    return model
