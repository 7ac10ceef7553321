"""Emu3Processor: texts, pictures and clips to prompt ids, ids back to them.

B prompts, T ids; b c h w for pixels, but h, w of an image's codes are latent rows and columns.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import mindspore as ms
import numpy as np
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.hub import take_hub_options
from emu3.mllm.configuration_emu3 import IMAGE_AREA
from emu3.mllm.defaults import CheckpointDefaults
from emu3.mllm.grammar import PrefixConstraint, latent_size
from emu3.mllm.parts import Clip, Coded, Message, Open, Part, read_parts, whole_size
from emu3.mllm.parts import Image as ImagePart
from emu3.mllm.prompts import PREFIX_TEMPLATE, PromptBuilder
from emu3.mllm.tokenization_emu3 import Emu3Tokenizer
from emu3.mllm.vocabulary import VISUAL_TEMPLATE
from emu3.tokenizer.codec import VisionCodec
from emu3.tokenizer.image_processing_emu3visionvq import Emu3VisionVQImageProcessor
from emu3.tokenizer.modeling_emu3visionvq import Emu3VisionVQModel

TOKENIZER_OPTIONS = (
    "padding",
    "padding_side",
    "pad_to_multiple_of",
    "truncation",
    "max_length",
    "return_token_type_ids",
    "return_attention_mask",
    "return_special_tokens_mask",
    "return_length",
)

PADDING_OPTIONS = ("padding", "padding_side", "pad_to_multiple_of", "return_attention_mask")


class Emu3Processor:
    """Prompts as ids from texts and pictures; texts and pictures from ids.

    Args:
        image_processor: an Emu3VisionVQImageProcessor.
        vision_tokenizer: an Emu3VisionVQModel.
        tokenizer: an Emu3Tokenizer; with padding_side "left" for batches to generate from.
        chat_template, prefix_template, visual_template: see PromptBuilder.
        allow_special_tokens, video_prefix_template: see PromptBuilder.
        image_area: pixels of a picture for which a call says nothing.
    """

    def __init__(
        self,
        image_processor: Emu3VisionVQImageProcessor,
        vision_tokenizer: Emu3VisionVQModel,
        tokenizer: Emu3Tokenizer,
        chat_template: str | None = None,
        prefix_template: str = PREFIX_TEMPLATE,
        visual_template: str = VISUAL_TEMPLATE,
        allow_special_tokens: bool = False,
        image_area: int = IMAGE_AREA,
        video_prefix_template: str | None = None,
    ):
        self.image_area = image_area
        self.image_processor = image_processor
        self.vision_tokenizer = vision_tokenizer
        self.tokenizer = tokenizer
        self.prompts = PromptBuilder(
            tokenizer,
            chat_template,
            prefix_template,
            visual_template,
            allow_special_tokens,
            video_prefix_template,
        )
        self.vocabulary = self.prompts.vocabulary
        config = getattr(vision_tokenizer, "config", None)
        if config is None or config.codebook_size > self.vocabulary.visual_count:
            raise InputError(
                f"vision tokenizer {type(vision_tokenizer).__name__} with "
                f"{getattr(config, 'codebook_size', 'no')} codes; allowed: an Emu3VisionVQModel of "
                f"at most {self.vocabulary.visual_count} codes; change --vq-model"
            )
        self.vis_tok_spatial_factor = config.spatial_scale_factor
        self.codec = VisionCodec(vision_tokenizer, image_processor)

    @classmethod
    def from_pretrained(
        cls,
        language_path: str | Path,
        vision_path: str | Path,
        vision_tokenizer: Emu3VisionVQModel | None = None,
        mindspore_dtype: ms.Type | str | None = None,
        padding_side: str = "left",
        **options,
    ) -> "Emu3Processor":
        """A processor from a language and a vision folder or hub id.

        `vision_tokenizer` saves loading that model twice; `options` are those of the class, and
        those that go to the hub (`revision`, `cache_dir` ...), for both folders alike.
        `chat_template`, `image_area` and `video_prefix_template` are by default what the language
        folder states.

        Raises:
            InputError: no such folder or hub id, or a file in it is missing or broken.
        """
        where = take_hub_options(options)
        defaults = CheckpointDefaults.from_pretrained(language_path, **where)
        for name in ("chat_template", "image_area", "video_prefix_template"):
            if options.get(name) is None:
                options[name] = getattr(defaults, name)
        if vision_tokenizer is None:
            vision_tokenizer = Emu3VisionVQModel.from_pretrained(
                vision_path, mindspore_dtype=mindspore_dtype, **where
            ).set_train(False)
        image_processor = Emu3VisionVQImageProcessor.from_pretrained(vision_path, **where)
        tokenizer = Emu3Tokenizer.from_pretrained(language_path, padding_side=padding_side, **where)
        return cls(image_processor, vision_tokenizer, tokenizer, **options)

    @property
    def model_input_names(self) -> list[str]:
        """What calls and the image processor give."""
        names = [*self.tokenizer.model_input_names, *self.image_processor.model_input_names]
        return [name for name in dict.fromkeys(names) if name != "token_type_ids"]

    def __call__(
        self,
        text: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image] | None = None,
        *,
        mode: str = "G",
        ratio: str | Sequence[str] = "1:1",
        image_area: int | None = None,
        height: int | Sequence[int] | None = None,
        width: int | Sequence[int] | None = None,
        padding_image: bool = False,
        return_tensors: str | None = None,
        **options,
    ) -> BatchFeature:
        """Prompt ids, attention mask and image_size (latent rows, columns) of each text.

        Args:
            text: one text or B of them.
            image: mode "U": one PIL image a text.
            mode: "G" asks for a picture, "U" asks about one.
            ratio, image_area: mode "G": the picture's shape "width:height" and size in pixels, by
                default the processor's.
            height, width: mode "G": latent rows and columns instead of ratio and area.
            padding_image: mode "U": images of several sizes are encoded together, grey-padded.
            return_tensors: None (lists), "np" (int64) or "ms" (int32 tensors).
            options: of the tokenizer, such as padding="longest" for texts of unequal length.

        Raises:
            InputError: counts, types, sizes or options that do not fit together.
        """
        texts = [text] if isinstance(text, str) else text
        if not isinstance(texts, list | tuple) or not texts:
            raise InputError(f"text {text!r}; allowed: one text or a list; change --prompt")
        if mode == "G":
            if image is not None:
                raise InputError('mode "G" takes no image; leave it out or use mode "U"')
            area = self.image_area if image_area is None else image_area
            sizes = self._sizes(len(texts), ratio, area, height, width)
            rows = [self.prompts.generation(t, *size) for t, size in zip(texts, sizes)]
        elif mode == "U":
            codes = self.tokenize_image(_images(image, len(texts)), padding_image=padding_image)
            sizes = [c.shape for c in codes]
            rows = [self.prompts.understanding(t, c) for t, c in zip(texts, codes)]
        else:
            raise InputError(f"mode {mode!r} is unknown; allowed: 'G', 'U'")
        sizes = {"image_size": [list(size) for size in sizes]}
        return self._batch(rows, sizes, return_tensors, options)

    def prompt(
        self,
        parts: Sequence[Part] | Sequence[Sequence[Part]],
        return_tensors: str | None = None,
        **options,
    ) -> BatchFeature:
        """Prompt ids and attention mask of a list of parts, or of a list of such lists.

        Parts follow bos as they are. Where an Open ends them the sizes are there too: image_size
        of pictures, video_size of clips, for generate().

        Args:
            parts: `emu3.mllm.parts`, in any order and number, an Open at the end alone.
            return_tensors, options: as of a call.

        Raises:
            InputError: what is no part, or options that do not fit.
        """
        several = isinstance(parts, list | tuple) and any(
            isinstance(p, list | tuple) for p in parts
        )
        lists = [read_parts(item) for item in (parts if several else [parts])]
        rows = [self.prompts.prompt([self._coded(part) for part in item]) for item in lists]
        return self._answered(rows, [item[-1] for item in lists], return_tensors, options)

    def conversation(
        self,
        messages: Sequence[Message],
        answer: Open | None = None,
        return_tensors: str | None = None,
        **options,
    ) -> BatchFeature:
        """Prompt ids and attention mask of a conversation whose last message is the user's.

        With `answer` the assistant's answer is that picture or clip, and its size is there too.

        Raises:
            InputError: messages that do not take turns, or end with the assistant's.
        """
        coded = [Message(m.role, tuple(map(self._coded, m.parts))) for m in messages]
        row = self.prompts.conversation(coded, answer)
        return self._answered([row], [answer], return_tensors, options)

    def _coded(self, part: Part) -> Part:
        """A part with codes in place of pixels."""
        if isinstance(part, ImagePart):
            return Coded(self.tokenize_image(_images(part.image, 1))[0])
        if isinstance(part, Clip):
            pixels = self.codec.frame_pixels(_images(part.frames, len(part.frames)))
            return Coded(self.codec.clip_codes(pixels), part.fps)
        return part

    def _answered(self, rows, wanted: list, return_tensors, options) -> BatchFeature:
        """The batch of prompts, with the sizes of what is to be made."""
        sizes = [whole_size(part.size) for part in wanted if isinstance(part, Open)]
        if not sizes:
            return self._batch(rows, {}, return_tensors, options)
        _check_count(
            "pictures or clips to be made", len(sizes), len(rows), "an Open in each or none"
        )
        pictures = all(size[0] == 1 for size in sizes)
        name = "image_size" if pictures else "video_size"
        sizes = {name: [list(size[1:] if pictures else size) for size in sizes]}
        return self._batch(rows, sizes, return_tensors, options)

    def tokenize_image(
        self, images: Sequence[Image.Image], *, padding_image: bool = False
    ) -> list[np.ndarray]:
        """VQ codes (h, w) int32 of each picture.

        Pictures of one size are encoded as one batch; others one by one, or, with
        `padding_image`, padded to one size together, which changes codes near the border.
        """
        pixels = [self.codec.pixels(image) for image in images]
        if not padding_image:
            return self.codec.encode_each(pixels)
        height, width = (max(p.shape[axis] for p in pixels) for axis in (1, 2))
        batch = np.zeros((len(pixels), 3, height, width), np.float32)
        for item, p in zip(batch, pixels):
            item[:, : p.shape[1], : p.shape[2]] = p
        factor = self.vis_tok_spatial_factor
        return [
            c[: math.ceil(p.shape[1] / factor), : math.ceil(p.shape[2] / factor)]
            for c, p in zip(self.codec.encode(batch), pixels)
        ]

    def build_prefix_constrained_fn(self, height, width) -> PrefixConstraint:
        """The grid grammar for latent sizes: one of each for all rows, or one a row.

        `height` and `width` are whole numbers, lists, arrays or tensors.

        Raises:
            InputError: their counts differ, or a side is out of range.
        """
        return PrefixConstraint(self.vocabulary, *_sides(height, width))

    def decode(self, ids, skip_special_tokens: bool = False, **kwargs):
        """Texts, PIL images and clips in a row of ids (T,), in order; a single piece comes bare.

        A clip is a list of its frames.

        With `skip_special_tokens` the row's plain text alone, "" when there is none.
        """
        ids = as_numpy(ids).reshape(-1)
        if skip_special_tokens:
            return self.tokenizer.decode(ids, skip_special_tokens=True, **kwargs)
        pieces = [self._decoded(piece, kwargs) for piece in self.vocabulary.parse_images(ids)]
        return pieces if len(pieces) > 1 else (pieces or [""])[0]

    def _decoded(self, piece: np.ndarray, options: dict):
        """The text, picture or frames of ids (T,), codes (h, w) or codes (t, h, w)."""
        if piece.ndim == 1:
            return self.tokenizer.decode(piece, **options)
        if piece.ndim == 2:
            return self.codec.picture(piece)
        count = len(piece) * self.codec.config.temporal_downsample_factor
        chunks = self.codec.frames(piece, count)
        return [frame for chunk in chunks for frame in chunk]

    def batch_decode(self, sequences, skip_special_tokens: bool = False, **kwargs) -> list:
        """`decode` of each row of (B, T) ids or of a list of rows."""
        rows = as_numpy(sequences) if hasattr(sequences, "asnumpy") else sequences
        return [self.decode(row, skip_special_tokens, **kwargs) for row in rows]

    def _sizes(self, count: int, ratio, image_area, height, width) -> list[tuple[int, int]]:
        """Latent (rows, columns) of each of `count` pictures."""
        if (height is None) != (width is None):
            raise InputError(f"height {height}, width {width}; allowed: both or neither")
        if height is None:
            ratios = [ratio] * count if isinstance(ratio, str) else list(ratio)
            _check_count("ratios", len(ratios), count, "--ratio")
            return [latent_size(r, image_area, self.vis_tok_spatial_factor) for r in ratios]
        sizes = [(int(h), int(w)) for h, w in np.broadcast(*_sides(height, width))]
        for size in sizes:
            self.vocabulary.check_size(*size)
        sizes = sizes * count if len(sizes) == 1 else sizes
        _check_count("heights and widths", len(sizes), count, "--height, --width")
        return sizes

    def _batch(self, rows, sizes, return_tensors, options) -> BatchFeature:
        unknown = sorted(set(options) - set(TOKENIZER_OPTIONS))
        if unknown:
            names = ", ".join(TOKENIZER_OPTIONS)
            raise InputError(f"processor option {unknown[0]!r} is unknown; allowed: {names}")
        if return_tensors not in (None, "np", "ms"):
            raise InputError(f"return_tensors {return_tensors!r}; allowed: None, 'np', 'ms'")
        # The model has one type of tokens; what is given here goes to generate() as it is.
        options = {"return_token_type_ids": False, **options}
        try:
            batch = self._padded(rows, options)
        except ValueError as error:
            raise InputError(f"tokenizer options {options}: {error}") from None
        feature = BatchFeature({**batch, **sizes})
        if return_tensors is None:
            return feature
        lengths = sorted({len(row) for row in feature["input_ids"]})
        if len(lengths) > 1:
            raise InputError(
                f"prompts of {lengths} ids make no array; allowed: padding='longest', or "
                "return_tensors=None"
            )
        return BatchFeature({key: _tensor(value, return_tensors) for key, value in feature.items()})

    def _padded(self, rows: list[list[int]], options: dict) -> dict[str, list]:
        """Rows of ids as the tokenizer truncates, pads and masks them.

        By calls that transformers 4 and 5 both have.
        """
        padding = {name: options[name] for name in PADDING_OPTIONS if name in options}
        rest = {name: value for name, value in options.items() if name not in PADDING_OPTIONS}
        if options.get("max_length") is not None:
            padding["max_length"] = rest["max_length"] = options["max_length"]
            if options.get("padding"):  # else a length alone asks for truncation
                rest.setdefault("truncation", False)
        each = [self.tokenizer.prepare_for_model(row, **rest) for row in rows]
        together = {name: [one[name] for one in each] for name in each[0]}
        return self.tokenizer.pad(together, **{"padding": False, **padding})


def _tensor(value: list, kind: str):
    if kind == "np":
        return np.asarray(value)
    return ms.Tensor(np.asarray(value, np.int32))


def _sides(height, width) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths, 1-D int64 each, of one length or one of them alone."""
    heights, widths = (as_numpy(value).reshape(-1).astype(np.int64) for value in (height, width))
    if heights.size != widths.size and 1 not in (heights.size, widths.size):
        raise InputError(
            f"{heights.size} heights and {widths.size} widths; allowed: equal counts, or one"
        )
    return heights, widths


def _images(image, count: int) -> list[Image.Image]:
    """A list of `count` PIL images."""
    images = [image] if isinstance(image, Image.Image) else image
    if not isinstance(images, list | tuple) or not all(
        isinstance(item, Image.Image) for item in images
    ):
        raise InputError(
            f'image {type(image).__name__}; allowed in mode "U": a PIL image, or one for each '
            "text; change --image"
        )
    _check_count("images", len(images), count, "--image")
    return list(images)


def _check_count(what: str, got: int, count: int, flag: str) -> None:
    if got != count:
        raise InputError(f"{got} {what} for {count} texts; allowed: one a text; change {flag}")
