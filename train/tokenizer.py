"""A BERT wordpiece vocabulary, learned on the texts that are trained on (section 5)."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from transformers import BertTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def learn_tokenizer(
    texts: Iterable[str], *, vocabulary_size: int, max_tokens: int
) -> BertTokenizerFast:
    """Wordpieces of `texts`, lower-cased, accents stripped: BERT's own normalisation.

    Args:
      texts: alt-texts; their order does not matter.
      vocabulary_size: at most so many pieces, the five special ones among them.
      max_tokens: longer texts are cut there, [CLS] and [SEP] counted.
    """
    learned = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    learned.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    learned.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocabulary_size, special_tokens=list(SPECIAL), show_progress=False
    )
    learned.train_from_iterator(texts, trainer)
    return BertTokenizerFast(vocab=learned.get_vocab(), model_max_length=max_tokens)


def save_tokenizer(tokenizer: BertTokenizerFast, folder: Path) -> None:
    """Writes `folder`, whole or not at all."""
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    tokenizer.save_pretrained(aside)
    os.replace(aside, folder)


def load_tokenizer(folder: Path) -> BertTokenizerFast:
    return BertTokenizerFast.from_pretrained(folder)
