"""What the model is fed: texts in buckets give what texts one by one give."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from alignset.train.data.batches import Batch
from alignset.train.data.inputs import ahead, encode_texts, on_device, to_inputs
from alignset.train.data.position import Position
from tests.support.closeness import close, summed_terms
from tests.support.small_training import SETTINGS, TEXTS, small_inputs, small_model, small_tokenizer

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.mark.parametrize("buckets", [1, 3, 50])
def test_buckets_hold_each_text_once_without_superfluous_padding(tokenizer, buckets: int):
    texts = encode_texts(TEXTS, tokenizer, replace(SETTINGS, text_buckets=buckets))
    assert len(texts.buckets) == min(buckets, len(TEXTS))
    rows = [
        i[m == 1].tolist() for ids, mask in texts.buckets for i, m in zip(ids, mask, strict=True)
    ]
    assert [rows[i] for i in texts.place] == tokenizer(TEXTS)["input_ids"]
    for ids, mask in texts.buckets:
        assert ids.dtype == mask.dtype == torch.int64
        assert mask.sum(dim=1).max() == mask.shape[1]
        assert (ids[mask == 0] == tokenizer.pad_token_id).all()
    assert (
        max(ids.shape[1] for ids, _ in texts.buckets[:-1] or texts.buckets)
        <= (texts.buckets[-1][0].shape[1])
    )


def test_buckets_padding_and_cutting_change_no_embedding(tokenizer):
    cut = encode_texts(["star " * 99, "star"], tokenizer, SETTINGS)
    assert [ids.shape[1] for ids, _ in cut.buckets] == [3, SETTINGS.max_tokens]
    model = small_model(vocabulary_size=len(tokenizer)).eval()
    one_bucket = replace(SETTINGS, text_buckets=1)
    with torch.no_grad():
        together = model.embed_texts(small_inputs(tokenizer).texts)
        padded = model.embed_texts(small_inputs(tokenizer, settings=one_bucket).texts)
        alone = torch.cat(
            [model.embed_texts(encode_texts([t], tokenizer, one_bucket)) for t in TEXTS]
        )
    terms = summed_terms(model.align.text_model)
    assert close(together, alone, terms=terms)
    assert close(padded, alone, terms=terms)


def test_inputs_reach_their_device_whole(device, tokenizer):
    gpu = 0 if device.type == "cuda" else None
    batch = Batch(np.zeros((6, 4, 4, 3), np.uint8), TEXTS, Position())
    inputs = to_inputs(batch, tokenizer, SETTINGS, gpu=gpu)
    assert inputs.pixels.is_pinned() == (gpu is not None)
    placed = on_device(inputs, device)
    both = [
        [of.pixels, of.texts.place, *(part for bucket in of.texts.buckets for part in bucket)]
        for of in (inputs, placed)
    ]
    for ours, theirs in zip(*both, strict=True):
        assert theirs.device.type == device.type
        assert torch.equal(theirs.cpu(), ours.cpu())
    assert (placed.captions, placed.position) == (TEXTS, Position())


def test_items_come_in_order_one_ahead_and_an_error_in_its_place():
    made, closed = [], threading.Event()

    def items():
        try:
            for i in range(100):
                made.append(i)
                yield i
            raise ValueError("the last")
        finally:
            closed.set()

    threads_before = {*threading.enumerate()}
    numbers = ahead(items(), lambda i: 10 * i)
    assert next(numbers) == 0
    time.sleep(0.1)
    assert len(made) == 2
    numbers.close()
    assert closed.is_set()
    assert {*threading.enumerate()} <= threads_before
    numbers = ahead(items(), int)
    assert [next(numbers) for _ in range(100)] == [*range(100)]
    with pytest.raises(ValueError, match="the last"):
        next(numbers)
    assert list(ahead((i for i in range(3)), int)) == [0, 1, 2]
