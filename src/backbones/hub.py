"""Where the weights of a timm name lie on this machine, and fetching them once where they do not."""

import logging
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from timm.models import get_pretrained_cfg

from src.backbones.architecture import full_name
from src.records.errors import UserError

logger = logging.getLogger(__name__)

FILES = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pth", ".npz")
SECONDS_TO_ANSWER = 4.0

_failures: dict[str, str] = {}


def local_file(name: str, folder: str | Path | None) -> Path | None:
    """The file that a timm name's weights are read from without network: the hub's cache first, then `folder`.

    In the folder it is `<timm name with tag>.safetensors`, `.pth` or `.npz`. Raises UserError for an unknown name.
    """
    name = full_name(name)
    repository = _repository(name)
    for file in FILES:
        cached = try_to_load_from_cache(repository, file) if repository is not None else None
        if isinstance(cached, str):
            return Path(cached)
    places = [Path(folder).expanduser() / f"{name}{suffix}" for suffix in SUFFIXES] if folder is not None else []
    return next((place for place in places if place.exists()), None)


def find_or_fetch(name: str, folder: str | Path | None) -> Path:
    """The local file of a timm name with tag, downloaded into the hub's cache if there is none.

    One failed download is remembered for the whole process. Raises UserError that says what to put where.
    """
    found = local_file(name, folder)
    if found is not None:
        return found
    repository = _repository(name)
    if repository is None:
        raise UserError(f"timm publishes no weights of backbone '{name}': give your own with source=file")
    if name not in _failures:
        try:
            return _fetch(repository)
        except Exception as error:  # each version of the hub's client brings another HTTP library's errors
            _failures[name] = str(error).split("\n")[0].split(". ")[0].rstrip(". ") or type(error).__name__
    use = "load it with source=file" if folder is None else f"put it at {Path(folder).expanduser() / name}.safetensors"
    raise UserError(
        f"the weights of backbone '{name}' are not on this machine and cannot be fetched ({_failures[name]}): "
        f"fetch {FILES[0]} of hub id {repository} elsewhere and {use}"
    )


def _repository(name: str) -> str | None:
    """The hub id, mostly `timm/<name>`; None where timm only has an architecture."""
    cfg = get_pretrained_cfg(name)
    return cfg.hf_hub_id if cfg is not None else None


def _fetch(repository: str) -> Path:
    # `hf_hub_download` tries five times over half a minute and more; one question first fails at once.
    get_hf_file_metadata(hf_hub_url(repository, FILES[0]), timeout=SECONDS_TO_ANSWER)
    logger.info("fetching %s of hub id %s", FILES[0], repository)
    return Path(hf_hub_download(repository, FILES[0]))
