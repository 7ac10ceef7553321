"""Emu3Tokenizer: byte-pair ranks in tiktoken's format plus a file of special tokens, or both from
transformers' tokenizer.json.

    ids 0 .. R-1      the ranks of emu3.tiktoken, any number R of them
    ids R .. R+207    <|endoftext|>, <|im_start|>, <|im_end|>, <|extra_0|> .. <|extra_204|>
    ids R+208 ..      the lines of emu3_vision_tokens.txt: img, boi, eoi, then the visual tokens

Special tokens are split off here and only plain text reaches tiktoken, which would need most of a
second to prepare 33,000 of them.
"""

import base64
import codecs
import itertools
import re
import unicodedata
from pathlib import Path

import tiktoken
from transformers import AddedToken, PreTrainedTokenizer

from emu3.arrays import as_numpy
from emu3.errors import InputError, shown
from emu3.files import atomic_path, read_json
from emu3.hub import checkpoint_folder, take_hub_options
from emu3.mllm.rank_files import BUILT_IN_SPECIALS, read_ranks, read_specials
from emu3.mllm.tokenizer_json import TOKENIZER_JSON, read_tokenizer_json

VOCAB_FILES_NAMES = {
    "vocab_file": "emu3.tiktoken",
    "special_tokens_file": "emu3_vision_tokens.txt",
}
TOKENIZER_FILES = (*VOCAB_FILES_NAMES.values(), "*token*.json", "chat_template*")
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MOST_CHARACTERS, MOST_BLANKS, MOST_MARKS = 2**24, 50_000, 1_000
SPECIAL_SHAPE = r"<\|[^<|>]*\|>"


class Emu3Tokenizer(PreTrainedTokenizer):
    """Text to ids and back, with padding, truncation and from_pretrained of transformers.

    A special token written out in a text becomes its id, as in the released tokenizer, unless
    `split_special_tokens=True` is given here or in a call: then it is ordinary text.
    """

    vocab_files_names = VOCAB_FILES_NAMES
    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012

    def __init__(
        self,
        vocab_file: str | Path,
        special_tokens_file: str | Path,
        errors: str = "replace",
        bos_token: str = "<|extra_203|>",
        eos_token: str = "<|extra_204|>",
        pad_token: str = "<|endoftext|>",
        img_token: str = "<|image token|>",
        boi_token: str = "<|image start|>",
        eoi_token: str = "<|image end|>",
        eol_token: str = "<|extra_200|>",
        eof_token: str = "<|extra_201|>",
        **kwargs,
    ):
        _check_errors(errors)
        _check_most(kwargs.get("model_max_length"))
        if Path(vocab_file).name == TOKENIZER_JSON:
            ranks, specials = read_tokenizer_json(vocab_file)
        else:
            ranks, specials = read_ranks(vocab_file), read_specials(special_tokens_file)
        self.errors = errors
        self.img_token = _spelling("img_token", img_token)
        self.boi_token = _spelling("boi_token", boi_token)
        self.eoi_token = _spelling("eoi_token", eoi_token)
        self.eol_token = _spelling("eol_token", eol_token)
        self.eof_token = _spelling("eof_token", eof_token)
        self._ranks = ranks
        self._pieces = sorted(ranks, key=ranks.get) + [token.encode() for token in specials]
        self.special_ids = {token: len(ranks) + k for k, token in enumerate(specials)}
        for name, token in (("bos", bos_token), ("eos", eos_token), ("pad", pad_token)):
            self._check_known(f"{name}_token", token)
        self._special_pattern = _special_pattern(specials)
        self._encoding = _encoding(ranks)
        super().__init__(
            bos_token=bos_token, eos_token=eos_token, pad_token=pad_token, errors=errors, **kwargs
        )

    def _check_known(self, name: str, token: object) -> None:
        """Refuse a token that has no id; None is none at all."""
        word = None if token is None else _spelling(name, token)
        if word is not None and word not in self.special_ids and word.encode() not in self._ranks:
            raise InputError(
                f"{name} = {shown(word)} is no token of this vocabulary; change "
                "tokenizer_config.json"
            )

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path, *args, **kwargs) -> "Emu3Tokenizer":
        """Load from a folder or a hub id; options replace those saved there.

        Raises:
            InputError: no such folder or hub id, or its files are missing or broken.
        """
        where = take_hub_options(kwargs)
        folder = checkpoint_folder(path_or_hub_id, list(TOKENIZER_FILES), **where)
        files = {name: folder / file for name, file in VOCAB_FILES_NAMES.items()}
        missing = [path.name for path in files.values() if not path.is_file()]
        if len(missing) == len(files) and (folder / TOKENIZER_JSON).is_file():
            # What lies beside it is for transformers' own classes, its chat template included.
            return cls(folder / TOKENIZER_JSON, folder / TOKENIZER_JSON, *args, **kwargs)
        if missing:
            raise InputError(
                f"folder {folder} has no {missing[0]}; allowed: a folder with "
                f"{' and '.join(VOCAB_FILES_NAMES.values())}, or {TOKENIZER_JSON}; change --model"
            )
        for path in folder.glob("*token*.json"):
            read_json(path, "change --model")
        # Named here, so that no file can name others in their place.
        kwargs |= {name: str(path) for name, path in files.items()}
        try:
            tokenizer = super().from_pretrained(str(folder), *args, **kwargs)
        except InputError:
            raise
        # transformers trips over wrong types of its own fields in any of these ways.
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise InputError(
                f"the tokenizer in {folder} cannot be read: {error}; change --model"
            ) from None
        tokenizer.init_kwargs.pop("auto_map", None)  # names code that is not saved here
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """Ranks and special tokens together."""
        return len(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def eod_id(self) -> int:
        """The id of <|endoftext|>: the first one after the ranks."""
        return len(self._ranks)

    def get_vocab(self) -> dict[bytes, int]:
        """Byte strings and their ranks, without the special tokens."""
        return dict(self._ranks)

    def encode_ordinary(self, text: str) -> list[int]:
        """Ids of `text` with no special token recognised.

        Raises:
            InputError: a text too long, or a run of blanks or combining marks that is.
        """
        _check_length(text)
        return self._encoding.encode_ordinary(unicodedata.normalize("NFC", text))

    def tokenize(self, text: str, ordinary: bool | None = None, **kwargs) -> list[bytes | str]:
        """Ordinary tokens as bytes, special tokens as str; `ordinary` recognises no specials."""
        if self.split_special_tokens if ordinary is None else ordinary:
            return self._ordinary_tokens(text)
        tokens = []
        for part in self.split_specials(text):
            tokens += [part] if part in self.special_ids else self._ordinary_tokens(part)
        return tokens

    def split_specials(self, text: str) -> list[str]:
        """`text` cut at its special tokens, which stay as parts of their own."""
        parts = [""]
        for part in self._special_pattern.split(text):
            if part in self.special_ids:
                parts += [part, ""]
            else:
                parts[-1] += part
        return [part for part in parts if part]

    def convert_tokens_to_ids(self, tokens):
        """The id of a token (str or bytes), or the ids of a list; None for an unknown token."""
        if tokens is None:
            return None
        if isinstance(tokens, str | bytes):
            return self._convert_token_to_id(tokens)
        return [self._convert_token_to_id(token) for token in tokens]

    def convert_tokens_to_string(self, tokens: list[bytes | str]) -> str:
        """The text of a list of tokens."""
        pieces = [token.encode() if isinstance(token, str) else token for token in tokens]
        return b"".join(pieces).decode("utf-8", errors=self.errors)

    def save_vocabulary(
        self, save_directory: str, filename_prefix: str | None = None
    ) -> tuple[str, str]:
        """Write the rank file and the special token file; returns their paths."""
        folder = Path(save_directory)
        paths = [folder / name for name in VOCAB_FILES_NAMES.values()]
        count = len(self._ranks)
        lines = [
            f"{base64.b64encode(piece).decode()} {rank}\n"
            for rank, piece in enumerate(self._pieces[:count])
        ]
        specials = [f"{token}\n" for token in self.special_ids if token not in BUILT_IN_SPECIALS]
        for path, content in zip(paths, (lines, specials)):
            with atomic_path(path) as temporary:
                temporary.write_text("".join(content), encoding="utf-8")
        return str(paths[0]), str(paths[1])

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_encoding"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._encoding = _encoding(self._ranks)

    def _ordinary_tokens(self, text: str) -> list[bytes]:
        return [self._pieces[i] for i in self.encode_ordinary(text)]

    def _convert_token_to_id(self, token: str | bytes) -> int | None:
        if isinstance(token, str):
            if token in self.special_ids:
                return self.special_ids[token]
            token = token.encode()
        return self._ranks.get(token)

    def _convert_id_to_token(self, index: int) -> str | bytes:
        piece = self._pieces[self._checked_ids([index])[0]]
        return piece if index < len(self._ranks) else piece.decode()

    def _decode(self, token_ids, skip_special_tokens: bool = False, errors=None, **kwargs) -> str:
        ids = self._checked_ids(as_numpy(token_ids).reshape(-1).tolist())
        if skip_special_tokens:
            ids = [i for i in ids if i < len(self._ranks)]
        text = b"".join(self._pieces[i] for i in ids)
        return text.decode("utf-8", errors=errors or self.errors)

    def batch_decode(self, sequences, *args, **kwargs) -> list[str]:
        """`decode` of each row of (B, T) ids, a tensor's too, or of a list of rows."""
        rows = as_numpy(sequences) if hasattr(sequences, "asnumpy") else sequences
        return [self.decode(row, *args, **kwargs) for row in rows]

    def _checked_ids(self, ids: list[int]) -> list[int]:
        wrong = [i for i in ids if not 0 <= i < len(self._pieces)]
        if wrong:
            raise InputError(f"id {wrong[0]} is no token; allowed: 0..{len(self._pieces) - 1}")
        return ids

    # transformers swallows split_special_tokens before `tokenize`; `ordinary` carries it there.
    # Version 5 comes back here for each text of a batch.
    def _encode_plus(self, *args, split_special_tokens: bool = False, **kwargs):
        return super()._encode_plus(*args, **{"ordinary": split_special_tokens, **kwargs})

    def _batch_encode_plus(self, *args, split_special_tokens: bool = False, **kwargs):
        return super()._batch_encode_plus(*args, ordinary=split_special_tokens, **kwargs)

    def _add_tokens(self, new_tokens, special_tokens: bool = False) -> int:
        unknown = [str(token) for token in new_tokens if str(token) not in self.special_ids]
        if unknown or (new_tokens and not special_tokens):
            raise InputError(
                f"tokens {unknown or [str(token) for token in new_tokens]} cannot be added; "
                f"allowed: special tokens listed in {VOCAB_FILES_NAMES['special_tokens_file']}"
            )
        return 0


def _spelling(name: str, token) -> str:
    """A token's text, from what tokenizer_config.json may hold: a text or an object with one."""
    token = token.get("content") if isinstance(token, dict) else token
    if not isinstance(token, str | AddedToken):
        raise InputError(f"{name} = {shown(token)}; allowed: a text; change tokenizer_config.json")
    return str(token)


def _check_errors(errors: str) -> None:
    try:
        codecs.lookup_error(errors)
    except (LookupError, TypeError, ValueError):
        raise InputError(
            f"errors = {shown(errors)}; allowed: replace, strict, ignore, backslashreplace; change "
            "tokenizer_config.json"
        ) from None


def _check_most(length: object) -> None:
    number = isinstance(length, int | float) and not isinstance(length, bool)
    if length is not None and not (number and length >= 1):
        raise InputError(
            f"model_max_length = {shown(length)}; allowed: a number from 1; change "
            "tokenizer_config.json"
        )


def _check_length(text: str) -> None:
    """Refuse what tiktoken gives up on, or what takes minutes to normalise.

    Raises:
        InputError: as `Emu3Tokenizer.encode_ordinary`.
    """
    if len(text) <= MOST_MARKS:
        return
    blanks = marks = 0
    if len(text) > MOST_BLANKS:
        blanks = max((len(run[0]) for run in re.finditer(r"\s+", text)), default=0)
    if not text.isascii() and sum(map(bool, map(unicodedata.combining, text))) > MOST_MARKS:
        runs = itertools.groupby(text, unicodedata.combining)
        marks = max(sum(1 for _ in run) for mark, run in runs if mark)
    if len(text) > MOST_CHARACTERS or blanks > MOST_BLANKS or marks > MOST_MARKS:
        raise InputError(
            f"a text of {len(text)} characters, {blanks} blanks and {marks} combining marks in a "
            f"row; allowed: {MOST_CHARACTERS}, {MOST_BLANKS} and {MOST_MARKS}; shorten the text"
        )


def _special_pattern(specials: list[str]) -> re.Pattern:
    """Finds every special token; those of the usual shape share one alternative, for speed."""
    odd = [token for token in specials if not re.fullmatch(SPECIAL_SHAPE, token)]
    odd = [re.escape(token) for token in sorted(odd, key=len, reverse=True)]
    return re.compile("(" + "|".join([*odd, SPECIAL_SHAPE]) + ")")


def _encoding(ranks: dict[bytes, int]) -> tiktoken.Encoding:
    return tiktoken.Encoding("emu3", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
