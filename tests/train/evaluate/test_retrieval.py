"""Retrieval: recalls of embeddings that can be checked by hand."""

import numpy as np
import pytest

from alignset.train.errors import TrainingError
from alignset.train.evaluate.retrieval import Right, chance, ranks, recalls, retrieval_scores

pytestmark = pytest.mark.numeric


def test_recalls_by_hand():
    # 12 candidates; the right one of query i is i. Query 0 finds it first, query 1 second,
    # query 2 sixth, query 3 last.
    scores = np.zeros((4, 12))
    for query, better in enumerate((0, 1, 5, 11)):
        scores[query, query] = 0.5
        scores[query, [c for c in range(12) if c != query][:better]] = 0.9
    of_itself = Right.of(np.arange(4), np.arange(4), (4, 12))
    ranked = ranks(np.eye(4), scores.T, of_itself)
    assert ranked.tolist() == [0, 1, 5, 11]
    assert recalls(ranked) == {"R@1": 25.0, "R@5": 50.0, "R@10": 75.0}


def test_image_to_text_and_text_to_image_are_not_mixed_up():
    # Image 0 lies nearest to text 0 and image 1 also; text 0 nearest to image 0, text 1 to image 1.
    images = np.array([[1.0, 0.0], [0.8, 0.6]])
    texts = np.array([[1.0, 0.0], [0.0, 1.0]])
    result = retrieval_scores(images, texts, [["one"], ["two"]])
    assert result["n"] == 2
    assert result["image_to_text"]["R@1"] == 50.0
    assert result["text_to_image"]["R@1"] == 100.0
    assert result["image_to_text"]["R@5"] == 100.0


def test_equal_embeddings_score_nothing_and_equal_texts_are_equally_right():
    same = np.ones((12, 1))
    result = retrieval_scores(same, same, [[str(i)] for i in range(12)])
    assert result["image_to_text"] == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0}
    swapped = retrieval_scores(np.eye(3), np.eye(3)[[1, 0, 2]], [["a cat"], ["a cat"], ["a dog"]])
    assert swapped["image_to_text"]["R@1"] == swapped["text_to_image"]["R@1"] == 100.0
    swapped = retrieval_scores(np.eye(3), np.eye(3)[[1, 0, 2]], [["a cat"], ["two"], ["a dog"]])
    assert swapped["image_to_text"]["R@1"] == pytest.approx(33.333)


def test_an_image_with_several_captions():
    # Image 0 has the first three texts, image 1 the last; image 0 lies nearest to its third one,
    # text 0 to image 1.
    images = np.array([[1.0, 0.0], [0.0, 1.0]])
    texts = np.array([[0.0, 1.0], [0.8, 0.6], [1.0, 0.0], [0.6, 0.8]])
    result = retrieval_scores(images, texts, [["a", "b", "c"], ["d"]])
    assert (result["n"], result["captions"]) == (2, 4)
    assert result["image_to_text"]["R@1"] == 50.0  # image 1 finds "a"
    assert result["text_to_image"]["R@1"] == 75.0  # "a" finds image 1
    assert result["chance"]["image_to_text"]["R@1"] == 50.0  # 3 of 4 and 1 of 4
    assert result["chance"]["text_to_image"]["R@1"] == 50.0


def test_recalls_are_those_of_all_pairs_one_by_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("alignset.train.evaluate.retrieval.AT_ONCE", 12)
    monkeypatch.setattr(
        "alignset.train.evaluate.retrieval.WIDEST", 4
    )  # blocks of 3 queries, 4 candidates
    rng = np.random.default_rng(5)
    for _ in range(10):
        n = int(rng.integers(12, 20))
        captions = [[str(t) for t in rng.integers(0, 8, rng.integers(1, 4))] for _ in range(n)]
        texts = [text for own in captions for text in own]
        a, b = rng.normal(size=(n, 5)), rng.normal(size=(len(texts), 5))
        right = np.array([[text in own for text in texts] for own in captions])
        result = retrieval_scores(a, b, captions)
        for way, scores, hits in (
            ("image_to_text", a @ b.T, right),
            ("text_to_image", b @ a.T, right.T),
        ):
            best = np.where(hits, scores, -np.inf).max(axis=1, keepdims=True)
            before = ((scores >= best) & ~hits).sum(axis=1)
            for k in (1, 5, 10):
                assert result[way][f"R@{k}"] == pytest.approx(100 * (before < k).mean(), abs=1e-3)
            assert result["chance"][way]["R@1"] == pytest.approx(100 * hits.mean(), abs=1e-3)


def test_chance_by_hand_and_of_each_direction():
    assert chance(np.ones(200, int), 200) == {"R@1": 0.5, "R@5": 2.5, "R@10": 5.0}
    # Two right ones of 4: the first is right half of the time; 4 candidates hold both.
    assert chance(np.full(4, 2), 4) == {"R@1": 50.0, "R@5": 100.0, "R@10": 100.0}
    captions = [["a", "b"], ["c"], ["d"], ["e"], ["f"], ["g"]]
    found = retrieval_scores(np.eye(6), np.eye(6)[[0, 0, 1, 2, 3, 4, 5]], captions)["chance"]
    # 5 of 7 texts: one of one right one in 5 of 7 draws, one of two in all but 1 of 21.
    to_text = 100 * (5 * 5 / 7 + 20 / 21) / 6
    assert found["image_to_text"]["R@5"] == pytest.approx(to_text, abs=1e-3)
    assert found["text_to_image"]["R@5"] == pytest.approx(100 * 5 / 6, abs=1e-3)


def test_not_a_number_is_refused():
    with pytest.raises(TrainingError, match="finite"):
        retrieval_scores(np.full((2, 2), np.nan), np.eye(2), [["a"], ["b"]])


def test_equal_images_are_one_image_with_the_texts_of_all():
    # Images 0 and 2 are one file: its texts are "a" and "c", and "a" lies nearest to it.
    images = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    texts = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    captions = [["a"], ["b"], ["c"]]
    result = retrieval_scores(images, texts, captions, identities=[b"x", b"y", b"x"])
    assert (result["n"], result["captions"]) == (2, 3)
    assert result["image_to_text"]["R@1"] == 100.0
    assert result["text_to_image"]["R@1"] == pytest.approx(66.667)  # "c" is nearer to image 1
    apart = retrieval_scores(images, texts, captions, identities=[b"x", b"y", b"z"])
    assert apart == retrieval_scores(images, texts, captions)
    assert apart["image_to_text"]["R@1"] == pytest.approx(66.667)
