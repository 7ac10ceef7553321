"""What is said about the world: captions, questions and answers, edits, in two languages."""

from types import ModuleType

from train.mini.words import chinese, english

LANGUAGES: dict[str, ModuleType] = {"en": english, "zh": chinese}
