import pytest

from alignset.transforms.columns import reasons

# The contract's order.
CONTRACT = (
    "broken_input",  # a file
    "broken_page",  # of an input of pages, before there is a pair
    "opted_out",  # of a page or an image
    "malformed_pair",
    "blocked",  # by host, URL or text
    "duplicate_pair",
    "wrong_language",
    "too_few_words",
    "too_many_words",
    "text_on_too_many_images",
    "image_with_too_many_texts",
    "rare_token",
    "fetch_failed",
    "not_an_image",
    "undecodable",
    "too_small",
    "too_elongated",
    "unsafe",
    "evaluation_overlap",
    "taken_down",  # after the run
)


def test_reasons_are_those_of_the_contract_in_its_order() -> None:
    assert reasons.REASONS == CONTRACT


@pytest.mark.parametrize("plane", [reasons.TEXT_STEPS, reasons.IMAGE_STEPS])
def test_each_reason_belongs_to_one_step_of_a_plane(plane: dict[str, tuple[str, ...]]) -> None:
    of_steps = [reason for its in plane.values() for reason in its]
    assert len(of_steps) == len(set(of_steps))
    assert all(reason in reasons.STEPS[step] for reason, step in reasons.STEP_OF.items())


def test_what_may_be_blocked_in_both_planes_is_so_as_the_contract_has_it() -> None:
    assert reasons.STEP_OF_TEXTS["blocked"] == "blocklist"
    assert reasons.STEP_OF_IMAGES["blocked"] == "blocked_images"
    steps = [*reasons.STEPS]
    assert steps.index("decode") < steps.index("blocked_images") < steps.index("size")
    assert steps.index("pairs") < steps.index("blocklist") < steps.index("duplicates")


def test_each_constant_is_named_after_its_reason() -> None:
    constants = {
        name: value
        for name, value in vars(reasons).items()
        if isinstance(value, str) and name.isupper()
    }
    assert {name: name.lower() for name in constants} == constants
    assert set(constants.values()) == set(reasons.REASONS)


def test_what_owners_do_not_want_used_is_so_in_both_planes() -> None:
    assert reasons.STEP_OF_TEXTS["opted_out"] == "pairs"
    assert reasons.STEP_OF_IMAGES["opted_out"] == "wishes"
    steps = [*reasons.STEPS]
    assert steps.index("fetch") < steps.index("wishes") < steps.index("decode")


def test_details_of_broken_input_are_those_that_are_given() -> None:
    from alignset.transforms.storage import broken_files as b

    given = (b.CUT_SHORT, b.DAMAGED, b.WRONG_FORMAT, b.NO_ACCESS, b.GONE, b.UNFINISHED)
    assert given == reasons.INPUT_FAULTS
    assert not set(given) & set(reasons.PAGE_FAULTS)  # by them the reason is told


def test_details_of_broken_pages_are_those_that_are_given() -> None:
    from alignset.transforms.pages import archive_members, archives, http_pages, wat

    details = {
        *(archive_members.BAD_COMPRESSION, archive_members.CUT_OFF, archive_members.UNREADABLE),
        *(archives.BAD_HEAD, archives.WRONG_LENGTH, wat.BAD_JSON, http_pages.LONG_URL),
        *(http_pages.BAD_HTTP, http_pages.BAD_ENCODING, http_pages.TOO_LARGE),
    }
    assert details == set(reasons.PAGE_FAULTS)
