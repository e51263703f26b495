"""A BERT wordpiece vocabulary, learned on the texts that are trained on (section 5)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import tokenizers

# Its stubs lack this one of its names.
from transformers import BertTokenizerFast, PreTrainedTokenizerFast  # type: ignore[attr-defined]

from alignset.train.model.saved_folders import save_folder

# What bounds the memory that learning takes, whatever the texts are.
_LONGEST_WORD = 100  # letters; BERT's tokenizers give longer ones no pieces
MOST_WORDS = 4_000_000  # that are counted at once
_REPEATED = 10_000  # copies of a word that are handed over as one text
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def learn_tokenizer(
    texts: Callable[[], Iterable[str]], *, vocabulary_size: int, max_tokens: int
) -> PreTrainedTokenizerFast:
    """Wordpieces of the texts, lower-cased, accents stripped: BERT's own normalisation.

    Args:
      texts: gives the alt-texts. Their order does not matter as long as they have no more than
        4 million different words; of more, those that are rare by then are forgotten at times.
      vocabulary_size: at most so many pieces, the five special ones among them. Single letters are
        a quarter of them at most, or 128; words with rarer letters teach nothing.
      max_tokens: longer texts are cut there, [CLS] and [SEP] counted.
    """
    learned = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    learned.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    learned.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    words = _without_rare_letters(_words(texts(), learned), vocabulary_size)
    # The trainer numbers "##a", "##b" ... in the order of a randomly seeded hash table, and breaks
    # ties by number: two runs on equal texts learned different pieces. Named as special tokens they
    # have their numbers before it starts; below, only their numbers are taken over.
    inner = [f"##{letter}" for letter in sorted({c for word in words for c in word[1:]})]
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocabulary_size, special_tokens=[*SPECIAL, *inner], show_progress=False
    )
    learned.train_from_iterator(_repeated(words), trainer)
    return BertTokenizerFast(vocab=learned.get_vocab(), model_max_length=max_tokens)


def _words(texts: Iterable[str], tokenizer: tokenizers.Tokenizer) -> Counter[str]:
    """How often each word is in the texts."""
    words: Counter[str] = Counter()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        pieces = tokenizer.pre_tokenizer.pre_tokenize_str(normal)
        words.update(word for word, _ in pieces if len(word) <= _LONGEST_WORD)
        if len(words) > MOST_WORDS:
            words = Counter(dict(words.most_common(MOST_WORDS // 2)))
    return words


def _repeated(words: Counter[str]) -> Iterator[str]:
    """Texts that have each word as often as it was counted."""
    for word in sorted(words):
        for done in range(0, words[word], _REPEATED):
            yield f"{word} " * min(_REPEATED, words[word] - done)


def _without_rare_letters(words: Counter[str], vocabulary_size: int) -> Counter[str]:
    """The words that are made of frequent letters alone: each letter takes two pieces, and without
    a limit 3,227 rare ones took 6,436 where 5,000 were asked for."""
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    most = max(vocabulary_size // 8, min(64, (vocabulary_size - len(SPECIAL)) // 2))
    frequent = {*sorted(letters, key=lambda letter: (-letters[letter], letter))[:most]}
    return Counter({word: count for word, count in words.items() if frequent.issuperset(word)})


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
