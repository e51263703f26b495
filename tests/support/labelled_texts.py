"""Alt-texts of three to nine words whose language is beyond doubt, written for the tests."""

ENGLISH_TEXTS = (
    *("old wooden table", "bowl of fresh fruit", "red car at night", "small white kitchen sink"),
    *("cat on a sofa", "men playing chess", "vintage leather handbag", "sunset over the lake"),
    *("green garden chair", "chocolate birthday cake", "modern living room", "black and white dog"),
    *("close up of a flower", "bride and groom dancing", "empty city street", "baby in a blue hat"),
    *("woman holding an umbrella", "snow covered mountain peak", "handmade silver earrings"),
    *("two boys riding bikes", "a glass of orange juice", "stack of old books"),
    *("horses grazing in a field", "wedding table decorations", "cheap office furniture"),
    *("A Man Reading The Newspaper", "FREE SHIPPING ON ALL ORDERS", "Click To Enlarge Image"),
    *("How to paint a wooden fence", "front view of the house", "map of the area"),
    *("our new summer collection", "an airplane landing at sunrise", "children at the playground"),
)
FOREIGN_TEXTS = (
    *("alter Holztisch im Garten", "Schüssel mit frischem Obst", "rotes Auto bei Nacht"),
    *("vieille table en bois", "un bol de fruits frais", "voiture rouge dans la rue"),
    *("mesa de madera antigua", "un plato de fruta fresca", "coche rojo en la calle"),
    *("vecchio tavolo di legno", "una ciotola di frutta fresca", "mesa velha de madeira"),
    *("oude houten tafel", "schaal met vers fruit", "gammalt träbord i trädgården"),
    *("gammelt træbord i haven", "en skål med frisk frukt", "vanha puinen pöytä puutarhassa"),
    *("stary drewniany stół", "miska świeżych owoców", "starý dřevěný stůl v zahradě"),
    *("starý drevený stôl v záhrade", "régi faasztal a kertben", "masă veche de lemn în grădină"),
    *("stara lesena miza na vrtu", "stari drveni stol u vrtu", "bahçedeki eski ahşap masa"),
    *("senas medinis stalas sode", "vecs koka galds dārzā", "vana puidust laud aias"),
    *("meja kayu tua di taman", "chiếc bàn gỗ cũ trong vườn", "taula vella de fusta al jardí"),
    *("старый деревянный стол в саду", "старий дерев'яний стіл у саду", "стара дървена маса"),
    *("παλιό ξύλινο τραπέζι στον κήπο", "שולחן עץ ישן בגינה", "طاولة خشبية قديمة في الحديقة"),
    *("میز چوبی قدیمی در باغ", "बगीचे में पुरानी लकड़ी की मेज", "โต๊ะไม้เก่าในสวน"),
    *("庭にある古い木のテーブル", "花园里的旧木桌", "정원에 있는 오래된 나무 탁자"),
)
