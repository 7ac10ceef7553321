"""The steps that train emu3-mini's vision tokenizer: together, apart, or the encoder alone.

Shapes: b pictures of s x s pixels, latents (b, e, t, h, w), n cells of which each has a kind.
"""

from mindspore import Tensor, nn, ops

from emu3.nn.log_sum_exp import shifted_exp
from emu3.tokenizer import Emu3VisionVQModel
from train.mini.adamw import AdamW

COMMITMENT = 0.25
SHARPNESS = 4.0  # of the naming loss: logits are -SHARPNESS * squared distance


class NamingLoss(nn.Cell):
    """Cross-entropy of the right code among all, by distance, plus the squared distance to it."""

    def __init__(self) -> None:
        super().__init__()
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, vectors: Tensor, table: Tensor, kinds: Tensor) -> Tensor:
        """vectors (n, e), table (codes, e), kinds (n,) -> scalar; trains the vectors alone."""
        table = ops.stop_gradient(table)
        scores = 2 * self.matmul(vectors, table) - (table * table).sum(-1)
        scores, _, sums = shifted_exp(SHARPNESS * scores)
        chosen = ops.gather_elements(scores, 1, kinds.expand_dims(1))[:, 0]
        named = (ops.log(sums) - chosen).mean()
        return named + ((vectors - ops.gather(table, kinds, 0)) ** 2).mean()


class TeachStep(nn.Cell):
    """Encoder and decoder apart: one learns to name the right codes, the other to draw them."""

    def __init__(self, model: Emu3VisionVQModel, optimizer: AdamW, naming: float) -> None:
        super().__init__()
        self.model, self.optimizer, self.weight = model, optimizer, naming
        self.parameters = optimizer.weights
        self.naming = NamingLoss()
        self.gradient = ops.GradOperation(get_by_list=True, sens_param=True)

    def loss(self, pixels: Tensor, weight: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The sum, the error of the picture, and the naming loss."""
        latent = self.model.encode_latent(pixels)
        b, e, t, h, w = latent.shape
        vectors = latent.transpose(0, 2, 3, 4, 1).reshape(-1, e)
        table = self.model.quantize.embedding.weight
        named = self.naming(vectors, table, kinds)
        right = self.model.quantize.embedding(kinds)
        passed = right.reshape(b, t, h, w, e).transpose(0, 4, 1, 2, 3)
        rebuilt = weighted_error(self.model.decode_latent(passed, True), pixels, weight)
        return rebuilt + self.weight * named, rebuilt, named

    def construct(
        self, pixels: Tensor, weight: Tensor, kinds: Tensor, lr: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step; returns error, naming loss and gradient norm."""
        loss, rebuilt, named = self.loss(pixels, weight, kinds)
        slopes = (ops.ones_like(loss), ops.zeros_like(rebuilt), ops.zeros_like(named))
        grads = self.gradient(self.loss, self.parameters)(pixels, weight, kinds, slopes)
        return rebuilt, named, self.optimizer(grads, lr)


class TrainStep(TeachStep):
    """Both together, straight through the encoder's own codes."""

    def loss(self, pixels: Tensor, weight: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As in TeachStep, with commitment and codebook terms."""
        picture, _, vectors, commitment, codebook = self.model(pixels, 1.0)
        rebuilt = weighted_error(picture, pixels, weight)
        named = self.naming(vectors, self.model.quantize.embedding.weight, kinds)
        loss = rebuilt + COMMITMENT * commitment + 0.1 * codebook + self.weight * named
        return loss, rebuilt, named


class NameStep(nn.Cell):
    """The encoder alone, at a quarter of the cost: codes keep their meaning, so it may."""

    def __init__(self, model: Emu3VisionVQModel) -> None:
        super().__init__()
        self.model = model
        encoder = [*model.encoder.trainable_params(), *model.quant_conv.trainable_params()]
        self.optimizer = AdamW(encoder, betas=(0.9, 0.95), weight_decay=1e-4)
        self.naming = NamingLoss()
        self.gradient = ops.GradOperation(get_by_list=True)

    def loss(self, pixels: Tensor, kinds: Tensor) -> Tensor:
        """The naming loss."""
        latent = self.model.encode_latent(pixels)
        vectors = latent.transpose(0, 2, 3, 4, 1).reshape(-1, latent.shape[1])
        return self.naming(vectors, self.model.quantize.embedding.weight, kinds)

    def construct(self, pixels: Tensor, kinds: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """One step; returns the loss and the gradient norm."""
        loss = self.loss(pixels, kinds)
        grads = self.gradient(self.loss, self.optimizer.weights)(pixels, kinds)
        return loss, self.optimizer(grads, lr)


def weighted_error(picture: Tensor, pixels: Tensor, weight: Tensor) -> Tensor:
    """Absolute and squared error (b, 3, h, w), each pixel by its weight (b, 1, h, w) -> scalar."""
    error = picture - pixels
    return (weight * (ops.abs(error) + 2 * error * error)).mean()
