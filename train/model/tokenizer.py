"""A BERT wordpiece vocabulary, learned on the texts that are trained on (section 5)."""

import heapq
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import tokenizers

# Its stubs lack this one of its names.
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerFast  # type: ignore[attr-defined]

from alignset.train.data.shard_index import SHARE_POWER
from alignset.train.data.whole_files import save_folder

# What bounds the memory that learning takes, whatever the texts are.
_LONGEST_WORD = 100  # letters; BERT's tokenizers give longer ones no pieces
MOST_WORDS = 4_000_000  # that are counted at once
_REPEATED = 10_000  # copies of a word that are handed over as one text
Words = TypeVar("Words", bound=dict[str, float] | Counter[str])  # how often each is there
_FOREIGN = re.compile(r"[^\W\d_\x00-\x7f]")
_FOREIGN_IN_ENGLISH = 0.05  # of texts
SAMPLED = 10_000  # texts, in which unknown tokens are counted
UNKNOWN_TOKENS = "unknown_tokens.json"  # in a run's folder
_MOST_OF_LANGUAGE = 0.05
_MOST_UNKNOWN = 0.01  # of the tokens, of which nothing is said
# For which a tokenizer has to give what its file says.
_SCRIPTS = [
    *(
        "A red Café-bar, 2 × £3.50",
        "Ein Fluß bei Nacht",
        "Красная лиса",
        "赤い狐が走る。",
        "빨간 여우",
    ),
    *("सड़क पर की गाड़ी", "น้ำตกในป่า", "ثعلب أحمر", "chó đỏ 🦊", "e\u0301 e\u200bx  y"),
]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def learn_tokenizer(
    texts: Mapping[str, Collection[str]],
    *,
    vocabulary_size: int,
    max_tokens: int,
    counts: Mapping[str, int] | None = None,
    strip_accents: bool = True,
) -> PreTrainedTokenizerFast:
    """Learns wordpieces of the texts, lower-cased as BERT does it.

    Args:
      texts: the alt-texts by the code of their language. Their order does not matter as long as
        they have no more than 4 million different words; of more, those that are rare by then are
        forgotten at times.
      vocabulary_size: at most so many pieces, the five special ones among them. Single letters are
        a quarter of them at most, or 128; words with rarer letters teach nothing.
      max_tokens: longer texts are cut there, [CLS] and [SEP] counted.
      counts: the number of texts of each language that texts were drawn from. A language counts by
        its share of these to the power 0.5.
      strip_accents: whether letters lose their accents and other marks, as BERT's of English do.
        In other languages a mark makes another word of it.
    """
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    # None strips where it lowers, which older versions of transformers were saved with.
    accents = None if strip_accents else False
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
        lowercase=True, strip_accents=accents
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    words = _drop_rare_letters(weighted_words(texts, counts or {}, tokenizer), vocabulary_size)
    # The trainer numbers "##a", "##b" ... in the order of a randomly seeded hash table, and breaks
    # ties by number: two runs on equal texts learned different pieces. Named as special tokens they
    # have their numbers before it starts; below, only their numbers are taken over.
    inner = [f"##{letter}" for letter in sorted({c for word in words for c in word[1:]})]
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocabulary_size, special_tokens=[*SPECIAL, *inner], show_progress=False
    )
    tokenizer.train_from_iterator(repeated_words(words), trainer)
    return BertTokenizerFast(
        vocab=tokenizer.get_vocab(), model_max_length=max_tokens, strip_accents=accents
    )


def english_alone(texts: Mapping[str, Iterable[str]]) -> bool:
    """Whether texts are all in English, by their language. Texts without one count as English where
    at most one in 20 has a letter that is not in ASCII, as "café"."""
    if texts.keys() - {"", "en"}:
        return False
    foreign = [not text.isascii() and _FOREIGN.search(text) for text in texts.get("", ())]
    return sum(map(bool, foreign)) <= len(foreign) * _FOREIGN_IN_ENGLISH


def weighted_words(
    texts: Mapping[str, Collection[str]], counts: Mapping[str, int], tokenizer: tokenizers.Tokenizer
) -> dict[str, float]:
    """How often each word is in the texts, in the order of the words; of several languages as if
    each had as many texts as its share to the power 0.5 says."""
    roots = {name: (counts.get(name) or len(few)) ** SHARE_POWER for name, few in texts.items()}
    each = sum(map(len, texts.values())) / (sum(roots.values()) or 1)
    words: dict[str, float] = {}
    for language in sorted(texts):
        counted: Counter[str] = Counter()
        for text in texts[language]:
            normal = tokenizer.normalizer.normalize_str(text)
            parts = tokenizer.pre_tokenizer.pre_tokenize_str(normal)
            counted.update(word for word, _ in parts if len(word) <= _LONGEST_WORD)
            counted = _most_frequent(counted)
        weight = each * roots[language] / max(1, len(texts[language])) if len(texts) > 1 else 1
        for word, count in counted.items():
            words[word] = words.get(word, 0) + weight * count
        words = _most_frequent(words)
    return dict(sorted(words.items()))


def _most_frequent(words: Words) -> Words:
    """The more frequent half of the words, where there are more than memory should hold."""
    if len(words) <= MOST_WORDS:
        return words
    frequent = heapq.nlargest(MOST_WORDS // 2, words.items(), key=lambda item: item[1])
    return type(words)(dict(frequent))


def repeated_words(words: Mapping[str, float]) -> Iterator[str]:
    """Texts that have each word as often as it was counted; what is left of a count goes to the
    next word, so that no language's rare words are rounded away or up.

    >>> [*repeated_words({"a": 1.5, "b": 1.5})]
    ['a ', 'b b ']
    """
    total = 0.0
    for word, count in words.items():
        written, total = int(total), total + count
        for start in range(written, int(total), _REPEATED):
            yield f"{word} " * min(_REPEATED, int(total) - start)


def _drop_rare_letters(words: dict[str, float], vocabulary_size: int) -> dict[str, float]:
    """The words that are made of frequent letters alone: each letter takes two pieces, and without
    a limit 3,227 rare ones took 6,436 where 5,000 were asked for."""
    letters: dict[str, float] = {}
    for word, count in words.items():
        for letter in word:
            letters[letter] = letters.get(letter, 0) + count
    max_letters = max(vocabulary_size // 8, min(64, (vocabulary_size - len(SPECIAL)) // 2))
    frequent = {*sorted(letters, key=lambda letter: (-letters[letter], letter))[:max_letters]}
    return {word: count for word, count in words.items() if frequent.issuperset(word)}


def pieces(tokenizer: PreTrainedTokenizerFast) -> int:
    """Rows that the text tower needs: ids may have gaps."""
    return int(max(tokenizer.get_vocab().values())) + 1


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes `folder`, whole or not at all."""
    save_folder(folder, tokenizer.save_pretrained)


def load_tokenizer(
    name: Path | str, *, local: bool = True, max_tokens: int | None = None
) -> PreTrainedTokenizerFast:
    """Loads a fast tokenizer from a folder or, where it is not local, by a published one's name.

    Args:
      max_tokens: longer texts are cut there; None: where the saved one says.
    """
    how = {} if max_tokens is None else {"model_max_length": max_tokens}
    files = {path.name for path in Path(name).iterdir()} if local else set()
    # transformers does not know whose a vocab.txt is that lies there alone.
    bare = "vocab.txt" in files and not files & {"tokenizer.json", "tokenizer_config.json"}
    kind: Any = BertTokenizerFast if bare else AutoTokenizer
    # Without the flag, some versions of transformers ask a hub about a folder too.
    tokenizer: PreTrainedTokenizerFast = kind.from_pretrained(name, local_files_only=local, **how)
    return tokenizer


def tokenizer_lack(tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> str:
    """The reason why a model cannot be trained with a tokenizer; empty: none."""
    if len(tokenizer.get_vocab()) <= len(tokenizer.all_special_tokens):
        return "holds no tokenizer (tokenizer.json or vocab.txt)"
    if not tokenizer.is_fast:
        return "has no tokenizer.json of a fast tokenizer"
    if tokenizer.pad_token_id is None:
        return "names no pad token (pad_token in its tokenizer_config.json)"
    ids = tokenizer(_SCRIPTS, truncation=True, max_length=max_tokens)["input_ids"]
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    special |= {tokenizer.cls_token_id, tokenizer.bos_token_id}  # which may be the unknown one too
    if any(text[0] not in special or text[-1] not in special for text in ids):
        return "puts no start token before a text or no end token behind it (its post_processor)"
    file = Path(tokenizer.name_or_path) / "tokenizer.json"
    if not file.exists():
        return ""
    file_tokenizer = tokenizers.Tokenizer.from_file(str(file))
    file_tokenizer.no_padding()
    file_tokenizer.enable_truncation(max_tokens)
    if [encoding.ids for encoding in file_tokenizer.encode_batch(_SCRIPTS)] != ids:
        return (
            f"does not do what its tokenizer.json says once it is a {type(tokenizer).__name__} of "
            "transformers, which builds some parts anew (normalizer, pre_tokenizer)"
        )
    return ""


class UnknownTokens(NamedTuple):
    """How much of a sample of texts a tokenizer does not know.

    Attributes:
      texts: how many were tokenised.
      share: of their tokens, each language weighing as much as it does in the dataset.
      languages: the share of each language.
    """

    texts: int
    share: float
    languages: dict[str, float]

    def summary(self) -> str:
        """One line; empty where at most 1 % are unknown, and at most 5 % of each language's."""
        if (
            self.share <= _MOST_UNKNOWN
            and max(self.languages.values(), default=0.0) <= _MOST_OF_LANGUAGE
        ):
            return ""
        worst = sorted(self.languages.items(), key=lambda item: (-item[1], item[0]))
        names = [f"{name} {share:.0%}" for name, share in worst if name and share > _MOST_UNKNOWN]
        where = f" (most in {', '.join(names[:5])})" if names else ""
        return f"{self.share:.1%} of the tokens are unknown to the tokenizer{where}"


def unknown_tokens(
    tokenizer: PreTrainedTokenizerFast,
    texts: Mapping[str, Sequence[str]],
    counts: Mapping[str, int],
    max_tokens: int,
) -> UnknownTokens:
    """Tokenises a sample of the texts, at most 10,000 and as far as they are read.

    Args:
      counts: the number of texts of each language that texts were drawn from.
    """
    how = {"add_special_tokens": False, "truncation": True, "max_length": max_tokens}
    each = -(-SAMPLED // max(1, len(texts)))
    samples = {name: few[:: -(-len(few) // each)] for name, few in texts.items() if few}
    languages = {}
    unknown = tokens = 0.0
    for language, sample in samples.items():
        ids = tokenizer([*sample], **how)["input_ids"]
        count = sum(map(len, ids))
        missing = sum(text_ids.count(tokenizer.unk_token_id) for text_ids in ids)
        languages[language] = missing / max(1, count)
        weight = counts[language] / len(sample)
        unknown, tokens = unknown + weight * missing, tokens + weight * count
    return UnknownTokens(sum(map(len, samples.values())), unknown / max(1, tokens), languages)


def read_unknown(run: Path) -> UnknownTokens | None:
    """Counts from when a run began; None: nothing was, as by older versions."""
    try:
        return UnknownTokens(**json.loads((run / UNKNOWN_TOKENS).read_text()))
    except (OSError, ValueError, TypeError):
        return None
