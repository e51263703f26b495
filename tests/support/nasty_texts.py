"""Hypothesis strategies for what the web calls an alt-text or a URL."""

from hypothesis import strategies as st

PIECES = [
    *("a", "A", "dog", "Dog", "DOG", "red", "7", "x-y", "don't", "1920x1080", "I", "i"),
    *(
        " ",
        "  ",
        "\t",
        "\n",
        "\x0b",
        "\x1c",
        "\x85",
        "\u00a0",
        "\u2003",
        "\u3000",
        "\u200b",
        "\x00",
    ),
    *("&amp;", "&nbsp;", "&#32;", "&#x41;", "&eacute", "&notit;", "&", "&amp;amp;", "&#0;"),
    *("&am", "amp;", "p;", ";", "&;", "&lt;", "\u0334", "\u0327", "\u035c", "\u1100", "\u1161"),
    *("é", "e\u0301", "\u0301", "ß", "ẞ", "ﬁ", "İ", "ı", "Σ", "ς", "ΐ", "\u1e9e", "Å", "\u212b"),
    *("-", "...", "“", "”", "«dog»", "!", "(", "_", "\u00ad", "\u0345", "\ufeff", "\u202e"),
    *(
        "日本",
        "語",
        "한",
        "\u1112\u1161\u11ab",
        "①",
        "½",
        "٣",
        "🐕",
        "👩‍🚀",
        "\U0001d7d8",
        "\ufffd",
        *(
            "की",
            "क",
            "\u0940",
            "น้ำใส",
            "ភាសា\u200bខ្មែរ",
            "ບ້ານ",
            "བོད་སྐད",
            "မြန်မာ",
            "かな",
            "ｶﾅ",
            "a²",
        ),
    ),
]
captions = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.text(max_size=20)
)
ascii_captions = st.text(st.characters(max_codepoint=127), max_size=30)
urls = st.builds(
    lambda parts: "".join(parts),
    st.tuples(
        st.sampled_from(["http://", "https://", "HTTP://", "hTTps://", "httpſ://", "ftp://", ""]),
        st.sampled_from(["", "", "", "me@", "a:B@", "@"]),
        st.sampled_from(
            ["a.example", "A.Example", "É.fr", "[::1]", "[FE80::A]", "", "a b", "[", "x_y"]
        ),
        st.sampled_from(
            ["", "", "", ":80", ":443", ":0443", ":8080", ":800", ":", ":65535", ":65536", ":x"]
        ),
        st.sampled_from(["", "/", "/A%20b.jpg", "?q=1", "/a?b#c", "#top", "/é.png", "/a b", "\\x"]),
        st.sampled_from(["", "", "", " ", "\n", "\u00a0"]),
    ),
)
