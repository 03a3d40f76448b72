"""Backbones: timm names, weight files and checksums in; a frozen `VisionTransformer` and its record out."""

from src.backbones.checksum import tensors_sha256
from src.backbones.files import read_tensors
from src.backbones.hub import local_file
from src.backbones.load import EMBEDDED, Backbone, load

__all__ = ["EMBEDDED", "Backbone", "load", "local_file", "read_tensors", "tensors_sha256"]
