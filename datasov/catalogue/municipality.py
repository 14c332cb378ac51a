"""JIS X 0401 and JIS X 0402: codes of prefectures (two digits) and of municipalities (five, and a check digit).

The check digit: the first five digits are multiplied by 6, 5, 4, 3 and 2; 11 less the remainder of the sum by 11 has it
as its last digit (総務省「全国地方公共団体コード」). Which codes are given to a municipality, and for how long,
is not in here: the ministry's list changes with every merger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from datasov.errors import InvalidQueryError
from datasov.model.columns import Category, Legal

PREFECTURES = (
    ("01", "北海道", "Hokkaido"), ("02", "青森県", "Aomori"), ("03", "岩手県", "Iwate"), ("04", "宮城県", "Miyagi"),
    ("05", "秋田県", "Akita"), ("06", "山形県", "Yamagata"), ("07", "福島県", "Fukushima"), ("08", "茨城県", "Ibaraki"),
    ("09", "栃木県", "Tochigi"), ("10", "群馬県", "Gunma"), ("11", "埼玉県", "Saitama"), ("12", "千葉県", "Chiba"),
    ("13", "東京都", "Tokyo"), ("14", "神奈川県", "Kanagawa"), ("15", "新潟県", "Niigata"), ("16", "富山県", "Toyama"),
    ("17", "石川県", "Ishikawa"), ("18", "福井県", "Fukui"), ("19", "山梨県", "Yamanashi"), ("20", "長野県", "Nagano"),
    ("21", "岐阜県", "Gifu"), ("22", "静岡県", "Shizuoka"), ("23", "愛知県", "Aichi"), ("24", "三重県", "Mie"),
    ("25", "滋賀県", "Shiga"), ("26", "京都府", "Kyoto"), ("27", "大阪府", "Osaka"), ("28", "兵庫県", "Hyogo"),
    ("29", "奈良県", "Nara"), ("30", "和歌山県", "Wakayama"), ("31", "鳥取県", "Tottori"), ("32", "島根県", "Shimane"),
    ("33", "岡山県", "Okayama"), ("34", "広島県", "Hiroshima"), ("35", "山口県", "Yamaguchi"),
    ("36", "徳島県", "Tokushima"), ("37", "香川県", "Kagawa"), ("38", "愛媛県", "Ehime"),
    ("39", "高知県", "Kochi"), ("40", "福岡県", "Fukuoka"),
    ("41", "佐賀県", "Saga"), ("42", "長崎県", "Nagasaki"), ("43", "熊本県", "Kumamoto"), ("44", "大分県", "Oita"),
    ("45", "宮崎県", "Miyazaki"), ("46", "鹿児島県", "Kagoshima"), ("47", "沖縄県", "Okinawa"),
)  # fmt: skip
"""JIS X 0401, which ISO 3166-2:JP takes over: code, name in Japanese, name in English."""

_NAMES = {code: (ja, en) for code, ja, en in PREFECTURES}


def check_digit(digits: str) -> int:
    """The check digit of the first five digits.

    Raises:
        InvalidQueryError: it is no text of five digits, or no prefecture has the first two.
    """
    if not isinstance(digits, str) or not re.fullmatch("[0-9]{5}", digits):
        raise InvalidQueryError("a municipality's code without its check digit is a text of five digits, like '10201'")
    if digits[:2] not in _NAMES:
        raise InvalidQueryError("a municipality's code begins with its prefecture's, 01 to 47")
    return (11 - sum(w * int(d) for w, d in zip((6, 5, 4, 3, 2), digits, strict=True)) % 11) % 10


def code(digits: str) -> str:
    """The whole code of six digits, of five. Raises as :func:`check_digit`."""
    return f"{digits}{check_digit(digits)}"


def check(code: str) -> str:
    """The code, where it is one of six digits and its check digit is right.

    Raises:
        InvalidQueryError: it is not.
    """
    if not isinstance(code, str) or not re.fullmatch("[0-9]{6}", code):
        raise InvalidQueryError("a municipality's code is a text of six digits, like '102016': keep a leading zero")
    if check_digit(code[:5]) != int(code[5]):
        raise InvalidQueryError("the last digit of a municipality's code is not its check digit: a digit is mistyped")
    return code


def prefecture(code: str) -> tuple[str, str]:
    """The names, in Japanese and English, of the prefecture of a code of two, five or six digits.

    Raises:
        InvalidQueryError: it is none of the three, or its check digit is wrong.
    """
    if isinstance(code, str) and len(code) == 2 and code in _NAMES:
        return _NAMES[code]
    if isinstance(code, str) and len(code) == 5:
        check_digit(code)
    else:
        check(code)
    return _NAMES[code[:2]]


def column(codes: Iterable[str], *, nullable: bool = False, legal: Legal = "ordinary") -> Category:
    """A column of municipalities, by their codes of six digits, each checked: a key that is listed.

    Raises:
        InvalidQueryError: a code is wrong, or is named twice.
    """
    return Category([check(c) for c in codes], nullable=nullable, legal=legal)
