from alignset.transforms.fetching.orders import Fetched, ImageResponse
from alignset.transforms.images.file_look import FileLook
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.shards.stated_opt_outs import (
    StatedOptOuts,
    joined_opt_outs,
    reported_opt_outs,
)
from tests.support import stating_files as made

PLAIN = made.picture("JPEG")
STATING = made.jpeg_with(PLAIN, made.xmp(made.PROHIBITED, "https://l/", "terms"))
ANSWER = ImageResponse("http://a/", 200, 1.5, "image/jpeg")


def test_what_is_stated_of_each_image() -> None:
    opt_outs = StatedOptOuts(OptOutSettings(), 4)
    assert opt_outs.note(Fetched(2, PLAIN, None, answer=ANSWER), FileLook(PLAIN)) is None
    assert opt_outs.note(Fetched(0, STATING, None), FileLook(STATING)) == "xmp_data_mining"
    columns = {name: column.to_pylist() for name, column in opt_outs.columns().items()}
    assert columns["opted_out"] == [None] * 4  # what is dropped has a reason for that
    assert columns["web_statement"] == ["https://l/", None, None, None]
    assert columns["usage_terms"] == ["terms", None, None, None]
    assert [answer and answer["final_url"] for answer in columns["answer"]] == [
        *(None, None, "http://a/", None)
    ]
    assert columns["answer"][2]["date"].isoformat() == "1970-01-01T00:00:01.500000+00:00"


def test_what_is_only_reported_drops_nothing() -> None:
    opt_outs = StatedOptOuts(OptOutSettings(unwished="report"), 1)
    assert (
        opt_outs.note(Fetched(0, STATING, None, opted_out=("x_robots_tag",)), FileLook(STATING))
        is None
    )
    assert opt_outs.columns()["opted_out"].to_pylist() == ["x_robots_tag,xmp_data_mining"]


def test_details_are_joined_in_their_order_and_counted() -> None:
    assert joined_opt_outs(["c2pa", "robots_txt", "c2pa", ""]) == "robots_txt,c2pa"
    assert joined_opt_outs([]) is None
    samples = [{"opted_out": "robots_txt,c2pa"}, {"opted_out": None}, {"opted_out": "c2pa"}]
    assert reported_opt_outs(samples) == {"c2pa": 2, "robots_txt": 1}
