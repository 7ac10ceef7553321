"""The steps that train the vision tokenizer: naming, drawing, and both straight through the codes.

Shapes: b items, s pixels along a side, c cells, n = b * c * c names, k frames of a clip.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from emu3.nn.log_sum_exp import shifted_exp
from emu3.tokenizer import Emu3VisionVQModel
from train.mini.adamw import AdamW

COMMITMENT = 0.25
SHARPNESS = 0.5  # of the naming loss at first: logits are -sharpness * squared distance
NEARNESS = 0.05  # weight of the squared distance to the right name's vector


class NamingLoss(nn.Cell):
    """Cross-entropy of the right name among all, by distance, plus the squared distance to it.

    How sharply distance tells is learnt beside: as sharp as the vectors are right. A fixed one
    that suits the end punishes the beginning, when all distances are large.
    """

    def __init__(self) -> None:
        super().__init__()
        self.matmul = ops.MatMul(transpose_b=True)
        self.sharpness = Parameter(Tensor(np.log(SHARPNESS), ms.float32), name="log_sharpness")

    def construct(self, vectors: Tensor, table: Tensor, names: Tensor) -> Tensor:
        """vectors (n, e), table (codes, e), names (n,) -> scalar; trains vectors and sharpness."""
        table = ops.stop_gradient(table)
        scores = 2 * self.matmul(vectors, table) - (table * table).sum(-1)
        scores, _, sums = shifted_exp(ops.exp(self.sharpness) * scores)
        chosen = ops.gather_elements(scores, 1, names.expand_dims(1))[:, 0]
        named = (ops.log(sums) - chosen).mean()
        away = ((vectors - ops.gather(table, names, 0)) ** 2).sum(-1).mean()
        return named + NEARNESS * away


class NameStep(nn.Cell):
    """The encoder alone learns to name what each cell of a picture shows."""

    def __init__(self, model: Emu3VisionVQModel) -> None:
        super().__init__()
        self.model, self.naming = model, NamingLoss()
        trained = [*model.encoder.trainable_params(), *model.quant_conv.trainable_params()]
        self.masks = (*present_only(trained), None)
        trained.append(self.naming.sharpness)
        self.optimizer = AdamW(trained, weight_decay=1e-4)
        self.gradient = ops.GradOperation(get_by_list=True)

    def loss(self, pixels: Tensor, names: Tensor) -> Tensor:
        """pixels (b, 3, s, s), names (n,) -> the naming loss."""
        latent = self.model.encode_latent(pixels)
        vectors = latent.transpose(0, 2, 3, 4, 1).reshape(-1, latent.shape[1])
        return self.naming(vectors, self.model.quantize.embedding.weight, names)

    def construct(self, pixels: Tensor, names: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """One step; returns the loss and the gradient norm."""
        loss = self.loss(pixels, names)
        grads = self.gradient(self.loss, self.optimizer.weights)(pixels, names)
        return loss, self.optimizer(masked(grads, self.masks), lr)


class DrawStep(nn.Cell):
    """The decoder alone learns to draw frames of clips from the names of their moments."""

    def __init__(self, model: Emu3VisionVQModel) -> None:
        super().__init__()
        self.model = model
        trained = [*model.decoder.trainable_params(), *model.post_quant_conv.trainable_params()]
        self.masks = present_only(trained, looks_back=("decoder.time_conv",))
        self.optimizer = AdamW(trained, weight_decay=1e-4)
        self.gradient = ops.GradOperation(get_by_list=True)

    def loss(self, names: Tensor, numbers: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
        """names (b, t, c, c), numbers (k,), pixels (b * k, 3, s, s), weights -> scalar."""
        latent = ops.stop_gradient(self.model.quantize.embedding(names))
        picture = frames_of(self.model, latent.transpose(0, 4, 1, 2, 3), numbers)
        return weighted_error(picture, pixels, weights)

    def construct(
        self, names: Tensor, numbers: Tensor, pixels: Tensor, weights: Tensor, lr: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step; returns the loss and the gradient norm."""
        loss = self.loss(names, numbers, pixels, weights)
        inputs = (names, numbers, pixels, weights)
        grads = self.gradient(self.loss, self.optimizer.weights)(*inputs)
        return loss, self.optimizer(masked(grads, self.masks), lr)


class BothStep(nn.Cell):
    """Encoder and decoder together, straight through the encoder's own codes.

    The weights' optimizers are those of the two steps before.
    """

    def __init__(self, name: NameStep, draw: DrawStep) -> None:
        super().__init__()
        self.name, self.draw, self.model, self.naming = name, draw, name.model, name.naming
        named, drawn = name.optimizer.weights, draw.optimizer.weights
        self.parameters = ParameterTuple([*named, *drawn])
        self.count = len(named)
        self.gradient = ops.GradOperation(get_by_list=True)

    def loss(self, pixels: Tensor, weights: Tensor, names: Tensor) -> Tensor:
        """pixels (b, 3, s, s), weights (b, 1, s, s), names (n,) -> scalar."""
        picture, _, vectors, commitment, _ = self.model(pixels, 1.0)
        named = self.naming(vectors, self.model.quantize.embedding.weight, names)
        return weighted_error(picture, pixels, weights) + COMMITMENT * commitment + named

    def construct(
        self, pixels: Tensor, weights: Tensor, names: Tensor, lr: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step; returns the loss and the gradient norm of the encoder."""
        loss = self.loss(pixels, weights, names)
        grads = self.gradient(self.loss, self.parameters)(pixels, weights, names)
        first = masked(grads[: self.count], self.name.masks)
        second = masked(grads[self.count :], self.draw.masks)
        norm = self.name.optimizer(first, lr)
        return ops.depend(loss, self.draw.optimizer(second, lr)), norm


def frames_of(model: Emu3VisionVQModel, latent: Tensor, numbers: Tensor) -> Tensor:
    """Only some frames of code vectors (b, e, t, c, c): numbers (k,) -> (b * k, 3, s, s).

    As `Emu3VisionVQModel.decode_latent` makes them, without the cost of the others.
    """
    b = latent.shape[0]
    x = model.decoder.time(ops.concat((model.post_quant_conv(latent), latent)))
    x = ops.gather(x.transpose(0, 2, 1, 3, 4), numbers, 1)  # (2b, k, z, c, c)
    z, zq = (half.reshape(-1, *x.shape[2:]) for half in (x[:b], x[b:]))
    return model.decoder.frames(z, zq)


def weighted_error(picture: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """Absolute and squared error (b, 3, h, w), each pixel by its weight (b, 1, h, w) -> scalar."""
    error = picture - pixels
    return (weights * (ops.abs(error) + 2 * error * error)).mean()


def present_only(
    parameters: list[Parameter], looks_back: tuple[str, ...] = ()
) -> tuple[Tensor | None, ...]:
    """Start kernels over time as the present alone, unchanged; returns what of them may be learnt.

    A moment's codes name its last frame, so the encoder has no need of the past, and the decoder
    needs the moment before only where it makes frames of moments (`looks_back`). What is never
    learnt of a kernel stays zero: a longer clip than any in training is coded no worse.
    """
    masks = []
    for parameter in parameters:
        if parameter.ndim != 5:  # out, in, time, rows, columns
            masks.append(None)
            continue
        kernel = np.zeros(parameter.shape, np.float32)
        if "conv2" not in parameter.name:  # of a residual block: it adds nothing at first
            rows, cols = kernel.shape[3] // 2, kernel.shape[4] // 2
            same = np.arange(min(kernel.shape[:2]))
            kernel[same, same, -1, rows, cols] = 1
        parameter.set_data(Tensor(kernel))
        mask = np.ones(kernel.shape, np.float32)
        if not any(name in parameter.name for name in looks_back):
            mask[:, :, :-1] = 0
        masks.append(Tensor(mask))
    return tuple(masks)


def masked(grads: tuple[Tensor, ...], masks: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
    """Gradients where the masks let them pass."""
    passed = ()
    for i in range(len(masks)):
        passed += (grads[i] if masks[i] is None else grads[i] * masks[i],)
    return passed
