import pytest

from alignset.transforms.opt_outs.xmp import NO_TERMS, xmp_terms
from tests.support.stating_files import xmp

VALUES = "http://ns.useplus.org/ldf/vocab/DMI-"


@pytest.mark.parametrize("as_elements", [True, False])
@pytest.mark.parametrize(
    ("value", "prohibited"),
    [
        ("ALLOWED", False),
        ("PROHIBITED-AIMLTRAINING", True),
        ("PROHIBITED-EXCEPTSEARCHENGINEINDEXING", True),
        ("PROHIBITED", True),
        ("PROHIBITED-SEELINKEDRIGHTSEXPR", True),
        ("PROHIBITEDNOT", False),
    ],
)
def test_values_of_data_mining(value: str, prohibited: bool, as_elements: bool) -> None:
    packet = xmp(VALUES + value, as_elements=as_elements)
    assert xmp_terms(packet).prohibited == prohibited


@pytest.mark.parametrize(
    ("packet", "prohibited"),
    [
        (b'<plus:DataMining rdf:resource="http://x/DMI-PROHIBITED"/>', True),
        (b"<plus:DataMining>http://x/DMI-ALLOWED</plus:DataMining><a>DMI-PROHIBITED</a>", False),
        (b"<p:DataMining><rdf:value>http://x/DMI-PROHIBITED</rdf:value></p:DataMining>", True),
        (b"<p:DataMining><rdf:Bag><rdf:li>DMI-PROHIBITED</rdf:li></rdf:Bag>", True),
        (b"<p:DataMining><![CDATA[DMI-PROHIBITED]]></p:DataMining>", True),
        (b'<p:DataMining rdf:resource="DMI-ALLOWED"/><a>DMI-PROHIBITED</a>', False),
        (b'<a p:DataMining="DMI-ALLOWED" b="DMI-PROHIBITED">', False),
        (b"<p:DataMining></p:DataMining><p:DataMining>DMI-PROHIBITED", True),
        (b"", False),
    ],
)
def test_where_the_value_stands(packet: bytes, prohibited: bool) -> None:
    assert xmp_terms(packet).prohibited == prohibited


@pytest.mark.parametrize(
    ("packet", "statement", "terms"),
    [
        (b'<a xmpRights:WebStatement = "http://l/"', "http://l/", None),
        (b"<xmpRights:WebStatement>http://l/</xmpRights:WebStatement>", "http://l/", None),
        (b'<xmpRights:WebStatement rdf:resource="http://l/"/>', "http://l/", None),
        (b"<xmpRights:WebStatement></xmpRights:WebStatement>", None, None),
        (b'<a xmpRights:UsageTerms="none"', None, "none"),
        (b"<b:UsageTerms><rdf:Alt><rdf:li xml:lang='de'>nur so</rdf:li><rdf:li>x", None, "nur so"),
        (b"<b:UsageTerms>\xff\xfe", None, "\ufffd\ufffd"),
    ],
)
def test_licences(packet: bytes, statement: str | None, terms: str | None) -> None:
    found = xmp_terms(packet)
    assert (found.web_statement, found.usage_terms) == (statement, terms)


def test_long_values_are_cut() -> None:
    terms = xmp_terms(b'<a x:UsageTerms="' + b"word " * 1500 + b'"').usage_terms
    assert terms is not None
    assert len(terms) == 2000
    assert xmp_terms(b"x" * (1 << 20) + b'<a x:UsageTerms="y"') == NO_TERMS
