"""A BERT wordpiece vocabulary, learned on the texts that are trained on (section 5)."""

from collections.abc import Callable, Iterable
from pathlib import Path

import tokenizers

# Its stubs lack this one of its names.
from transformers import BertTokenizerFast, PreTrainedTokenizerFast  # type: ignore[attr-defined]

from train.model.saved_folders import save_folder

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def learn_tokenizer(
    texts: Callable[[], Iterable[str]], *, vocabulary_size: int, max_tokens: int
) -> PreTrainedTokenizerFast:
    """Wordpieces of the texts, lower-cased, accents stripped: BERT's own normalisation.

    Args:
      texts: gives the alt-texts, and is called twice. Their order does not matter.
      vocabulary_size: at most so many pieces, the five special ones among them, unless there are
        more different characters.
      max_tokens: longer texts are cut there, [CLS] and [SEP] counted.
    """
    learned = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    learned.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    learned.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    # The trainer numbers "##a", "##b" ... in the order of a randomly seeded hash table, and breaks
    # ties by number: two runs on equal texts learned different pieces. Named as special tokens they
    # have their numbers before it starts; below, only their numbers are taken over.
    inner = [f"##{letter}" for letter in sorted(_inner_letters(texts(), learned))]
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocabulary_size, special_tokens=[*SPECIAL, *inner], show_progress=False
    )
    learned.train_from_iterator(texts(), trainer)
    return BertTokenizerFast(vocab=learned.get_vocab(), model_max_length=max_tokens)


def _inner_letters(texts: Iterable[str], tokenizer: tokenizers.Tokenizer) -> set[str]:
    """Characters that stand behind another one in some word."""
    letters: set[str] = set()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal):
            letters.update(word[1:])
    return letters


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes `folder`, whole or not at all."""
    save_folder(folder, tokenizer.save_pretrained)


def load_tokenizer(
    name: Path | str, *, local: bool = True, max_tokens: int | None = None
) -> PreTrainedTokenizerFast:
    """A BERT's, from a folder or, where it is not local, by a published one's name.

    Args:
      max_tokens: longer texts are cut there; None: where the saved one says.
    """
    cut = {} if max_tokens is None else {"model_max_length": max_tokens}
    # Without the flag, some versions of transformers ask a hub about a folder too.
    return BertTokenizerFast.from_pretrained(name, local_files_only=local, **cut)
