"""What a focus is about: four classes and twelve subclasses, found by rules.

The PRIST paper names the four classes (section 3.4) and says that there are twelve subclasses; neither their names
nor the labels are released. The subclasses, and the rules, are ours: the head of the noun phrase decides (the last
word before the first preposition), then the other words of the phrase; quoted or capital letters are lettering.
English only. "other" is what no rule knows.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from miras.quality.content_words import stem, words_of

OTHER: Final = "other"
CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "textual content": ("brand", "lettering", "number"),
    "physical objects": ("machine", "food", "article"),
    "visual elements": ("emblem", "surface", "layout"),
    "people and environment": ("person", "nature", "place"),
}
SUBCLASSES: Final = (*(sub for subs in CLASSES.values() for sub in subs), OTHER)
CLASS_OF: Final = {sub: name for name, subs in CLASSES.items() for sub in subs} | {OTHER: OTHER}

_WORDS = {
    "brand": """logo brand branding trademark wordmark signage label packaging wrapper""",
    "lettering": """text word title subtitle phrase slogan quote inscription lettering writing caption sign signboard
        letter name script sentence question note message tweet headline heading signature banner poster tattoo marking
        character graffiti credit author url website email information contact description instruction warning
        section document certificate limited edition badge marquee plate card page tag sticker advertisement ad bib
        billboard version identification descriptor condition legend""",
    "number": """number year date price digit dosage time score percent percentage hour minute temperature size scale
        vintage discount address quantity""",
    "machine": """camera phone smartphone iphone computer laptop monitor keyboard mouse remote console cartridge device
        connector usb cable button switch dial display screen led port slot lens car bus taxi truck van train tram bike
        bicycle motorcycle plane airplane aircraft rocket ship boat helicopter engine wheel tire tyre grille headlight
        mirror bumper tail wing windscreen windshield propeller watch smartwatch wristwatch clock hand television tv
        radio speaker microphone headphone vacuum cleaner oven stove refrigerator fridge printer machine tool hammer
        saw drill crane module battery charger adapter key typewriter syringe calculator lamp light chip sim cap""",
    "food": """bottle can glass cup mug wine beer juice liquid drink beverage soju vodka whisky whiskey gin water milk
        tea coffee foam food bread cake chocolate fruit apple banana orange lemon raspberry blueberry cheese meat pizza
        sandwich salad soup sauce oil flour yeast improver sugar plate bowl fork spoon knife cork jar jug teapot kettle
        sticker cordial lambic stout ale lager candy cookie biscuit egg vegetable tomato potato carrot""",
    "article": """book paper newspaper magazine spine cover box bag suitcase backpack umbrella chair table desk sofa bed
        shelf bookshelf cabinet drawer door window curtain carpet rug pillow blanket lid handle strap shirt tshirt
        jersey uniform jacket coat suit dress skirt trousers pants jeans shoe boot sock glove hat helmet scarf tie belt
        attire clothing outfit sash collar sleeve coin medal trophy ball bat racket ticket tray stand tripod cloth case
        container gift toy balloon doll puppet sculpture statue vase basket bucket ladder rope flag board pen
        pencil board bottlecap casing wallet ring necklace bracelet earring glasses sunglasses mask kite post fence
        mat product audiobook cardboard pot candle mirror frame shade base stem tube pulvule sheet notebook podium
        insignia bookmark eyewear pocket piece surfboard leg trunk pole crown tail fin body cone""",
    "emblem": """emblem symbol icon star arrow cross triangle circle square hammer sickle mark sign graphic illustration
        drawing depiction cartoon artwork image picture photo photograph imagery portrait map figure key statue
        silhouette mascot coat insignia""",
    "surface": """color colour pattern stripe band texture background surface style design font tone wallpaper shade
        gradient reflection shadow contrast line dot grid shape edge border material finish element feature""",
    "layout": """position placement layout arrangement combination location center centre corner top bottom side
        repetition structure composition clutter spacing""",
    "person": """person people man woman men women boy girl child children kid baby player coach umpire catcher
        spectator audience crowd pedestrian worker groundskeeper passenger driver cheerleader speaker teacher student
        team group face head hair eye ear nose mouth smile beard hand finger arm leg foot shoulder expression posture
        gesture stance pose action motion movement interaction fist thumb lap activity model photographer singer actor
        officer soldier player""",
    "nature": """tree grass leaf leaves flower plant bush branch forest sand sea ocean wave river lake water mountain
        hill rock stone snow ice sky cloud sun moon rain animal dog cat horse cow sheep bird fish scorpion pincer paw
        feather fur beak mane garden field beaver elephant bear zebra giraffe insect butterfly petal weather globe
        earth puddle""",
    "place": """building house tower church castle bridge road street pavement sidewalk path wall roof facade entrance
        exit gate stair station airport shop store awning restaurant hotel room floor ceiling kitchen bathroom office
        stadium seat seating stage parking lot site tent background foreground landmark city skyline park beach bench
        chimney window balcony terrace billiard market setting lane crossing hall""",
}
# A word in two lists counts where it stands first here, unless `_FIRST` says otherwise.
_ORDER = ("lettering", "brand", "number", "person", "emblem", "machine", "food", "article", "nature", "place",
          "surface", "layout")  # fmt: skip
_FIRST = {"square": "emblem", "water": "nature", "hand": "person", "leg": "person", "lot": "place", "top": "layout",
          "display": "machine", "tail": "article", "cap": "article", "key": "machine", "background": "surface",
          "plate": "lettering", "handle": "article", "tag": "lettering", "seat": "place", "speaker": "person",
          "mirror": "article", "shade": "article", "size": "number", "glass": "food",
          "wave": "nature", "note": "lettering"}  # fmt: skip
_CLASS_OF_STEM = {stem(word): sub for sub in reversed(_ORDER) for word in _WORDS[sub].split()} | {
    stem(word): sub for word, sub in _FIRST.items()
}
_QUOTED = re.compile(r"[\"“”‘][^\"“”’]*[\"“”’]|(?<!\w)'[^']+(?:'(?!\w)|$)|(?<!\w)“[^”]*$")
_PREPOSITION = re.compile(
    r"\b(?:of|on|in|at|with|from|to|for|by|under|above|below|beside|behind|near|next|around|inside|against|about|"
    r"between|surrounding|across|over|through|during|before|after|indicating|showing|describing|beneath|aged)\b",
    re.IGNORECASE,
)
_TWO_WORDS = {("phone", "number"): "number", ("license", "plate"): "lettering", ("price", "tag"): "number",
              ("video", "section"): "layout"}  # fmt: skip


@lru_cache(maxsize=100_000)  # the same phrases come back picture after picture
def focus_class(phrase: str) -> str:
    """One of `SUBCLASSES` for the phrase of a focus; "other" where no rule knows it."""
    unquoted = _QUOTED.sub(" ", phrase)
    head, *rest = _PREPOSITION.split(unquoted)
    for part in (head, *rest):
        known = _known(words_of(part))
        if known is not None:
            return known
    return _lettering(phrase, unquoted)


def _known(words: list[str]) -> str | None:
    """The class of the last word that has one: in English the head of a noun phrase ends it."""
    for place in range(len(words) - 1, -1, -1):
        pair = _TWO_WORDS.get((words[place - 1], stem(words[place]))) if place else None
        found = pair or _CLASS_OF_STEM.get(stem(words[place]))
        if found is not None:
            return found
    return None


def _lettering(phrase: str, unquoted: str) -> str:
    """What is left when no noun is known: something read off the picture, or unknown."""
    if unquoted != phrase:
        return "lettering"
    words = re.findall(r"\w+", phrase)
    if words and sum(word[0].isdigit() for word in words) * 2 >= len(words):
        return "number"
    names = [word for word in words if word[0].isupper() or word[0].isdigit()]
    if len(words) > 1 and len(names) * 2 > len(words):
        return "lettering"
    return "brand" if len(words) == 1 and words[0].isupper() else OTHER
