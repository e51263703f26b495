"""Texts of the demo's web that are not about scenes."""

import itertools
import random

ADJECTIVES = ("old", "quiet", "little", "famous", "wooden", "broken", "painted", "hidden", "busy",
              "lonely")  # fmt: skip
NOUNS = ("house", "bridge", "garden", "church", "window", "kitchen", "station", "fountain",
         "market", "harbour", "library", "theatre", "staircase", "orchard",
         "lighthouse")  # fmt: skip
PLACES = ("village", "valley", "north of the country", "middle of the forest", "morning light",
          "snow", "city centre", "shadow of the mountain", "rain", "summer of last year",
          "background", "neighbourhood")  # fmt: skip

# At the bounds of 3 to 20 words. Each is put on two images or more.
FEW_WORDS = ("the house", "the garden", "the cat", "with the", "the flowers", "the moon",
             "- the house -", "the / kitchen", "(the window)", "theatre", "weather")  # fmt: skip
THREE_WORDS = ("the old house", "the kitchen / window", "the - hidden - village",
               "the (quiet) garden!", "in the morning", "behind the window")  # fmt: skip

BOILERPLATE = "click here to enlarge"
FREQUENT_NAMES = ("1920x1080", "logo")

EVERYBODYS = (
    "the picture that everybody has on the wall of the kitchen",
    "a postcard that was sent to all of our friends",
    "the cover of the book that we read last summer",
)
TOO_MANYS = (
    "read more about this story in the morning paper",
    "sign up for our weekly letter with the best offers",
    "share this picture with all of your friends",
)

FOREIGN = {
    "de": ("Ein altes Haus mit einem schönen Garten am Ufer des Flusses",
           "Drei junge Frauen warten auf den letzten Zug nach Hause",
           "Die Brücke über den Fluss wurde vor hundert Jahren gebaut"),
    "fr": ("Une petite maison blanche au bord de la mer avec des fleurs",
           "Les enfants jouent dans le jardin derrière la vieille église",
           "Le marché du dimanche matin sur la place du village"),
    "es": ("Una casa pequeña con flores rojas junto al río del pueblo",
           "Los niños juegan en el jardín detrás de la iglesia vieja",
           "El mercado de la ciudad está lleno de gente los domingos"),
    "it": ("Una piccola casa bianca con il giardino vicino alla spiaggia",
           "I bambini giocano nella piazza davanti alla vecchia chiesa",
           "Il mercato della domenica nel centro della città"),
    "nl": ("Een oud huis met een grote tuin aan de rand van het dorp",
           "De kinderen spelen in het park achter de oude kerk",
           "Een schip vaart langzaam onder de brug door het kanaal"),
    "pt": ("Uma casa pequena com flores vermelhas à beira do rio",
           "As crianças brincam no jardim atrás da igreja antiga",
           "O barco do pescador está na praia ao nascer do sol"),
    "sv": ("Ett gammalt rött hus med en stor trädgård vid sjön",
           "Barnen leker på gatan bakom den gamla kyrkan när skolan är slut",
           "Båten ligger i hamnen och väntar på att vädret ska bli bättre"),
    "pl": ("Mały biały dom z ogrodem na brzegu jeziora w górach",
           "Dzieci bawią się w parku za starym kościołem",
           "Targ w niedzielę rano na rynku naszego miasta"),
    "ru": ("Старый дом с большим садом на берегу реки",
           "Дети играют в парке за старой церковью",
           "Лодка рыбака стоит у моста через реку"),
    "ja": ("川のそばにある古い家と大きな庭の写真です",
           "子供たちは古いお寺の後ろの公園で遊んでいます",
           "日曜日の朝の市場にはたくさんの人がいます"),
    "ar": ("منزل قديم مع حديقة كبيرة على ضفة النهر",
           "الأطفال يلعبون في الحديقة خلف المسجد القديم",
           "سوق القرية في صباح يوم الجمعة"),
    "el": ("Ένα παλιό σπίτι με μεγάλο κήπο δίπλα στο ποτάμι",
           "Τα παιδιά παίζουν στο πάρκο πίσω από την εκκλησία",
           "Η αγορά της Κυριακής στο κέντρο της πόλης"),
}  # fmt: skip

_SYLLABLES = ("zor", "vak", "quil", "bex", "tuf", "grae", "plin", "dro", "mip", "wost", "jun",
              "kel")  # fmt: skip


def sentences(rng: random.Random, *, template: str = "the {} {} in the {}") -> list[str]:
    """The 1,800 sentences of one template, in a random order."""
    filled = [template.format(*slots) for slots in itertools.product(ADJECTIVES, NOUNS, PLACES)]
    rng.shuffle(filled)
    return filled


def nonsense(rng: random.Random) -> list[str]:
    """The 20,736 words of four syllables that nobody uses, in a random order."""
    made = ["".join(syllables) for syllables in itertools.product(_SYLLABLES, repeat=4)]
    rng.shuffle(made)
    return made


def long_sentences(rng: random.Random, count: int, word_count: int) -> list[str]:
    """Sentences of exactly so many words, 12 at least."""
    made: dict[str, None] = {}
    while len(made) < count:
        parts = " and ".join(rng.sample(sentences(rng), 1 + word_count // 6)).split()
        made[" ".join(parts[: word_count - 1]) + " today"] = None
    return list(made)
