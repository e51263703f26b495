import pytest

from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings


def test_the_directives_of_the_flags() -> None:
    how = OptOutSettings()
    assert how.directives == {"noai", "noimageai", "noml", "noindex", "noimageindex"}
    assert how.page_directives == {"noai", "noimageai", "noml", "noimageindex"}
    assert OptOutSettings(disallowed_header_directives="").directives == frozenset()
    as_img2dataset_has_it = OptOutSettings(disallowed_header_directives='["noai", "noimageai"]')
    assert as_img2dataset_has_it.directives == {"noai", "noimageai"}
    assert how.usage_categories == {"train-ai", "train-genai"}
    assert OptOutSettings(content_usage="").usage_categories == frozenset()
    assert how.robots_txt
    assert how.rejects


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"unwished": "keep"}, "unwished must be one of reject, report; got 'keep'"),
        ({"content_usage": "Train AI"}, "content_usage must be categories"),
        ({"disallowed_page_directives": "no/ai"}, "disallowed_page_directives must be directives"),
        ({"user_agent_token": "a b"}, "user_agent_token must be"),
        ({"tdmrep_json": True, "tdm_reservation": False}, "tdmrep_json asks for what"),
    ],
)
def test_wrong_values_say_what_is_allowed(flags: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        OptOutSettings(**flags)
