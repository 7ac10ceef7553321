"""Stub."""

from mindspore import nn


class PretrainedModel(nn.Cell):
    def __init__(self, config) -> None:
        super().__init__()
        self.config = config
