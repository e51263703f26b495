"""Writes pages.warc.gz and directives.warc.gz; pages.wat.gz and directives.wat.gz are then made
of them by the Internet Archive's own code.

With Java 17 and Maven:

  mvn dependency:copy-dependencies -DoutputDirectory=lib     (in a folder whose pom.xml depends on
                                                  org.netpreserve.commons:webarchive-commons:1.3.0)
  java -cp 'lib/*' tests/wat_pages/WriteWat.java tests/wat_pages/pages.warc.gz \
      tests/wat_pages/pages.wat.gz

and the same of directives, whose WARC the tests make themselves.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.page_archives import packed, page_record, record, response
from tests.wat_pages import directives

PLAIN = """<!doctype html><html><head><title>Dogs</title></head><body>
<img src="/dog.jpg" alt="a dog on a lawn">
<img src="img/cat.png" alt="a cat &amp; a mat"><IMG ALT='two "birds"' SRC=birds.gif>
<img src="//cdn.example/fish.jpg?a=1&amp;b=2&copy=3" alt="fish &amp;amp; chips">
<a href="x" title="<img src=no.png alt=no>">no image</a>
<!-- <img src="gone.png" alt="gone"> --><script>"<img src='s.png' alt='script'>"</script>
<img src="empty.png" alt=""><img src="none.png"><img alt="no source"><img src="" alt="empty">
<img src="data:image/gif;base64,R0lGOD" alt="inline"><img src="  spaced.png " alt="  spaced  out ">
<noscript><img src="noscript.png" alt="without a script"></noscript>
<img src="mailto:a@b.example" alt="a letter"><img src="caf\u00e9.png" alt="caf\u00e9 cr\u00e8me">
</body></html>"""
BASED = '<html><head><base href="/other/"></head><img src=a.png alt="by base">'
# What a WAT does not tell: other attributes than `src`, and which of two bases came first.
UNTOLD = """<img data-src=lazy.png alt="comes late"><img srcset="s.png 1x, l.png 2x" alt="in a set">
<picture><source srcset=p.webp><img alt="in a picture"></picture>"""
TWO_BASES = '<base href="/first/"><base href="/second/"><img src=b.png alt="two bases">'
PAGES = [
    page_record("http://dogs.example/a/b.html", PLAIN, "Server: test"),
    page_record("https://dogs.example/base", BASED),
    page_record("http://dogs.example/no-images", "<p>nothing"),
    page_record("http://dogs.example/untold", UNTOLD),
    page_record("http://dogs.example/bases", TWO_BASES),
    record("http://dogs.example/gone", response(PLAIN, status="404 Not Found")),
    record("http://dogs.example/text", response(PLAIN, kind="text/plain")),
    record("http://dogs.example/moved", response("", "Location: /a", status="301 Moved")),
]

if __name__ == "__main__":
    for name, records in (("pages", PAGES), ("directives", directives.RECORDS)):
        Path(__file__).with_name(f"{name}.warc.gz").write_bytes(packed(records, "gz"))
