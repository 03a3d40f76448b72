"""Attention maps, their overlap with masks, and the picture of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from src.attention.maps import chance, class_token_map, overlap
from src.attention.picture import INFERNO, contact_sheet, heat, overlay, save_png


def attention(batch: int, tokens: int, seed: int = 0) -> torch.Tensor:
    logits = torch.randn(batch, 3, tokens, tokens, generator=torch.Generator().manual_seed(seed))
    return logits.softmax(dim=-1)


@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    prefix=st.integers(1, 3),
    prompts=st.integers(0, 6),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_prefix_and_prompts_are_cut_off(rows: int, columns: int, prefix: int, prompts: int, seed: int) -> None:
    weights = attention(2, prefix + prompts + rows * columns, seed)
    maps = class_token_map(weights, (rows, columns), prefix, prompts)
    assert maps.shape == (2, rows, columns)
    assert torch.allclose(maps.sum(dim=(1, 2)), torch.ones(2))
    changed = weights.clone()
    changed[..., : prefix + prompts] = 0.7
    changed[:, :, 1:] = 0.3
    assert torch.equal(class_token_map(changed, (rows, columns), prefix, prompts), maps)


def test_a_patch_stands_at_its_row_and_column() -> None:
    weights = torch.zeros(1, 2, 1 + 4 + 6, 1 + 4 + 6)
    weights[0, 0, 0, 1 + 4 + 5] = 0.2
    weights[0, 1, 0, 1 + 4 + 1] = 0.6
    maps = class_token_map(weights, (2, 3), prompts=4)
    assert torch.allclose(maps, torch.tensor([[[0, 0.75, 0], [0, 0, 0.25]]]))


def test_no_attention_to_any_patch_is_a_map_of_zeros() -> None:
    weights = torch.zeros(1, 1, 5, 5)
    weights[..., 0] = 1
    assert torch.equal(class_token_map(weights, (2, 2)), torch.zeros(1, 2, 2))


@pytest.mark.parametrize("prefix, prompts, grid", [(1, 0, (3, 3)), (1, 5, (2, 2)), (0, 1, (2, 2)), (2, 0, (2, 2))])
def test_tokens_that_do_not_add_up_are_refused(prefix: int, prompts: int, grid: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="5 tokens"):
        class_token_map(attention(1, 5), grid, prefix, prompts)


def test_half_precision_gives_a_map_in_float32() -> None:
    assert class_token_map(attention(1, 5).bfloat16(), (2, 2)).dtype == torch.float32


def test_attention_on_the_object_is_one_and_beside_it_nought() -> None:
    mask = torch.zeros(1, 16, 24, dtype=torch.bool)
    mask[0, 4:8, 8:16] = True  # patches (1, 2) and (1, 3) of 4x6
    on = torch.zeros(1, 4, 6)
    on[0, 1, 2], on[0, 1, 3] = 0.9, 0.1
    beside = torch.zeros(1, 4, 6)
    beside[0, 3, 5] = 1
    assert torch.allclose(overlap(on, mask), torch.ones(1))
    assert overlap(beside, mask).item() == 0


@given(seed=st.integers(0, 10**6), grid=st.tuples(st.integers(1, 6), st.integers(1, 6)), patch=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_overlap_is_the_mass_of_pixels_on_the_mask(seed: int, grid: tuple[int, int], patch: int) -> None:
    torch.manual_seed(seed)
    masks = torch.rand(2, grid[0] * patch, grid[1] * patch) < torch.rand(1)
    maps = torch.rand(2, *grid) + 1e-3
    maps /= maps.sum(dim=(1, 2), keepdim=True)
    pixels = maps.repeat_interleave(patch, 1).repeat_interleave(patch, 2) / patch**2
    share = overlap(maps, masks)
    assert torch.allclose(share, (pixels * masks).sum(dim=(1, 2)), atol=1e-6)
    assert torch.allclose(share + overlap(maps, ~masks), torch.ones(2), atol=1e-5)
    uniform = torch.full_like(maps, 1 / (grid[0] * grid[1]))
    assert torch.allclose(overlap(uniform, masks), chance(masks), atol=1e-6)


def test_patches_that_do_not_divide_the_mask_are_refused() -> None:
    with pytest.raises(ValueError, match="divide"):
        overlap(torch.ones(1, 3, 3) / 9, torch.zeros(1, 64, 64, dtype=torch.bool))


def test_heat_is_ordered_by_brightness_and_clips() -> None:
    colours = heat(np.linspace(0, 1, 200)).astype(float)
    brightness = colours @ np.array([0.30, 0.59, 0.11])
    assert (np.diff(brightness) >= -0.5).all() and brightness[-1] - brightness[0] > 200
    assert (heat(np.array([-1.0, 2.0])) == INFERNO[[0, -1]]).all()


def test_the_heat_is_brightest_where_the_map_is() -> None:
    image = np.full((3, 64, 64), 128, dtype=np.uint8)
    attention_map = np.zeros((8, 8))
    attention_map[2, 5] = 0.01  # scaled by its largest value
    tile = overlay(image, attention_map, np.zeros((64, 64), dtype=np.bool_))
    assert tile.shape == (3, 64, 64) and tile.dtype == np.uint8
    row, column = np.unravel_index(tile.sum(axis=0, dtype=int).argmax(), (64, 64))
    assert (row // 8, column // 8) == (2, 5)
    assert (tile[:, 40:, :30] == tile[:, 40:41, :1]).all()


def test_the_outline_is_white_and_only_around_the_object() -> None:
    mask = np.zeros((16, 16), dtype=np.bool_)
    mask[0:4, 6:10] = True  # at the edge of the image
    tile = overlay(np.zeros((3, 16, 16), dtype=np.uint8), np.zeros((4, 4)), mask)
    white = (tile == 255).all(axis=0)
    assert white[4, 6:10].all() and white[0:4, 5].all() and white[0:4, 10].all() and white.sum() == 12


def test_without_a_mask_nothing_is_outlined_and_the_key_does_not_say_so() -> None:
    image, attention_map = np.full((3, 16, 16), 90, dtype=np.uint8), np.eye(4)
    nothing = np.zeros((16, 16), dtype=np.bool_)
    assert (overlay(image, attention_map) == overlay(image, attention_map, nothing)).all()
    plain, outlined = (contact_sheet([("", [image])], outlined=outlined) for outlined in (False, True))
    assert plain.width < outlined.width and plain.height == outlined.height


def test_a_sheet_holds_every_tile_at_its_place() -> None:
    colours = [[(250, 0, 0), (0, 250, 0)], [(0, 0, 250)]]
    tiles = [[np.full((64, 64, 3), c, dtype=np.uint8).transpose(2, 0, 1) for c in row] for row in colours]
    sheet = np.asarray(contact_sheet([("image", tiles[0]), ("TOAST\noverlap 0.31", tiles[1])]))
    red, green, blue = (np.argwhere((sheet == colour).all(axis=2)) for row in colours for colour in row)
    assert len(red) == len(green) == len(blue) == 144 * 144
    assert red[0][0] == green[0][0] < blue[0][0] and red[0][1] == blue[0][1] < green[0][1]
    title = sheet[blue[0][0] : blue[-1][0], : blue[0][1]]
    assert title.min() < 60 and (title[:, -8:] == 255).all()  # dark writing that does not reach the tiles


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one tile"):
        contact_sheet([])
    with pytest.raises(ValueError, match="at least one tile"):
        contact_sheet([("image", [])])


def test_saving_replaces_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "attention, a=b.png"
    save_png(Image.new("RGB", (4, 4), (255, 0, 0)), path)
    save_png(Image.new("RGB", (4, 4), (0, 255, 0)), path)

    def full(*args: object, **options: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(Image.Image, "save", full)
        save_png(Image.new("RGB", (4, 4)), path)
    assert Image.open(path).getpixel((0, 0)) == (0, 255, 0)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
