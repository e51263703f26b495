"""Crawlers to whom hosts address opt-outs from training in robots.txt, as `also_obey=all` has them:
those that gather what models are trained on, and tokens that only reserve it. Fetchers of single
pages for a user, and crawlers of search engines, are not among them.

Source: the purpose of each by https://github.com/ai-robots-txt/ai.robots.txt (22 August 2026). The
address beside a name is its operator's page, which was not always read. "list": no page is known.
"""

ALL_CRAWLERS = (
    "CCBot",  # https://commoncrawl.org/ccbot
    "img2dataset",  # https://github.com/rom1504/img2dataset
    "Google-Extended",  # https://developers.google.com/crawling/docs/crawlers-fetchers
    "Applebot-Extended",  # https://support.apple.com/119829
    "GPTBot",  # https://developers.openai.com/api/docs/bots
    "ClaudeBot",  # https://support.claude.com/articles/8896518
    *("anthropic-ai", "Claude-Web"),  # list: its old names
    "meta-externalagent",  # https://developers.facebook.com/docs/sharing/webmasters/web-crawlers
    "FacebookBot",  # list: its old name, for speech
    "Amazonbot",  # https://developer.amazon.com/amazonbot
    *("AI2Bot", "Ai2Bot-Dolma"),  # https://allenai.org/crawler
    # https://developers.google.com/crawling/docs/crawlers-fetchers
    *("GoogleOther", "GoogleOther-Image"),
    *("Webzio-Extended", "omgili", "omgilibot"),  # list: of Webz.io, which sells what it crawls
    "Diffbot",  # https://docs.diffbot.com
    "Timpibot",  # list
    "ImagesiftBot",  # https://imagesift.com/about
    "ICC-Crawler",  # https://ucri.nict.go.jp/en/icccrawler.html
    "Cotoyogi",  # https://ds.rois.ac.jp/en_center8/en_crawler
    "SBIntuitionsBot",  # https://www.sbintuitions.co.jp/en/bot
    "VelenPublicWebCrawler",  # https://velen.io
    *("Brightbot", "Bytespider", "ChatGLM-Spider", "cohere-training-data-crawler"),  # list
    *("DeepSeekBot", "Factset_spyderbot", "FriendlyCrawler", "ISSCyberRiskCrawler"),  # list
    *("Kangaroo Bot", "laion-huggingface-processor", "LAIONDownloader"),  # list
    *("PanguBot", "TikTokSpider"),  # list
)
