"""Which script a character is of, for pieces that must not mix two (SentencePiece's rule).

Han, Hiragana and Katakana count as one. The scripts are Unicode's (Scripts.txt), by the `regex`
package; they matter in training only.
"""

import functools

import numpy as np
import regex

__all__ = ["ANY", "scripts_of"]

ANY = -1  # of a mark, which goes with every script
COMMON = 0  # digits, punctuation and all that is of no script: a script of its own

JAPANESE = r"\p{Han}\p{Hiragana}\p{Katakana}\u30FC"
NAMES = """
Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali
Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian
Chakma Cham Cherokee Chorasmian Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari
Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic
Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew
Imperial_Aramaic Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Kawi Kayah_Li
Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu
Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin
Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani
Myanmar Nabataean Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham
Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian
Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau
Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham
SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa
Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto
Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square
"""


def scripts_of(characters):
    """A number for the script of each character, int64 (N,): ANY, COMMON, or one above."""
    numbers = np.full(len(characters), COMMON)
    for number, pattern in enumerate(_patterns(), start=ANY):
        for found in pattern.finditer(characters) if number != COMMON else ():
            numbers[found.start() : found.end()] = number
    return numbers


@functools.cache
def _patterns():
    names = [r"\p{Inherited}", r"\p{Common}", JAPANESE]
    names += [rf"\p{{Script={name}}}" for name in NAMES.split()]
    return [regex.compile(f"[{name}]+") for name in names]
