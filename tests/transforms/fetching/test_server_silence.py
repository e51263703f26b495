"""When a name server counts as silent, and when it is asked whether it lives."""

import math

from alignset.transforms.fetching.server_silence import ServerSilence


def test_it_is_silent_once_a_probe_has_had_no_answer_for_long():
    silence = ServerSilence(limit_s=2.0)
    assert not silence.lasts(1e9)  # nothing was asked
    silence.probe(10.0)
    silence.probe(11.0)
    assert silence.is_doubted
    assert [silence.lasts(now) for now in (11.9, 12.0)] == [False, True]


def test_a_word_in_time_is_no_end_of_a_silence_and_a_late_one_is():
    silence = ServerSilence(limit_s=2.0)
    silence.probe(10.0)
    assert not silence.hear(11.0)
    assert (silence.is_doubted, silence.lasts(100.0), silence.spoke_again) == (
        False,
        False,
        -math.inf,
    )
    silence.probe(12.0)
    assert silence.hear(15.0)
    assert (silence.lasts(100.0), silence.spoke_again) == (False, 15.0)


def test_it_is_probed_once_a_second_and_not_while_it_speaks():
    silence = ServerSilence(limit_s=2.0)
    assert silence.due() == -math.inf
    silence.probe(10.0)
    assert silence.due() == 11.0
    silence.hear(10.5)
    assert silence.due() == 11.5
