"""Groups of emoji, after Unicode's, by code point. No package at hand has them, and they are few ranges."""

from __future__ import annotations

from bisect import bisect_right

_RANGES = """
0023 symbols | 203C symbols | 231A objects | 23CF symbols | 23F0 objects | 23F4 symbols | 2600 weather | 260E objects
2611 symbols | 2614 weather | 2615 food | 2618 plants | 261D people | 2620 smileys | 2622 symbols | 2639 smileys
2640 symbols | 265F objects | 2660 symbols | 2692 objects | 2693 travel | 2694 objects | 2695 symbols | 2696 objects
269B symbols | 26A1 weather | 26A7 symbols | 26B0 objects | 26BD activities | 26C4 weather | 26CE symbols | 26CF objects
26D4 symbols | 26E9 travel | 26F7 activities | 26FA travel | 2702 objects | 2705 symbols | 2708 travel | 2709 objects
270A people | 270F objects | 2714 symbols | 2728 activities | 2733 symbols | 2744 weather | 2747 symbols
1F004 activities | 1F170 symbols | 1F1E6 flags | 1F201 symbols
1F300 weather | 1F302 objects | 1F303 travel | 1F308 weather | 1F309 travel | 1F30A weather | 1F30B travel
1F30C weather | 1F32D food | 1F330 plants | 1F336 food | 1F337 plants | 1F345 food | 1F37C food | 1F380 activities
1F392 objects | 1F396 activities | 1F399 objects | 1F39E activities | 1F3A0 travel | 1F3A3 activities | 1F3A4 objects
1F3A8 activities | 1F3A9 objects | 1F3AA travel | 1F3AB activities | 1F3B5 objects | 1F3BD activities
1F3D4 travel | 1F3F3 flags | 1F3F5 plants | 1F3F7 objects | 1F3F8 activities | 1F3FA objects
1F400 animals | 1F440 people | 1F451 objects | 1F463 people | 1F479 smileys | 1F47C people | 1F47D smileys
1F481 people | 1F484 objects | 1F485 people | 1F488 objects | 1F48B smileys | 1F48D objects | 1F48F people
1F490 plants | 1F491 people | 1F492 travel | 1F493 smileys | 1F4A0 symbols | 1F4A1 objects | 1F4A2 smileys
1F4A3 objects | 1F4A4 smileys | 1F4AA people | 1F4AB smileys | 1F4AE plants | 1F4AF smileys | 1F4B0 objects
1F4F4 symbols | 1F4F7 objects | 1F4FF objects | 1F500 symbols | 1F507 objects | 1F518 symbols | 1F525 weather
1F526 objects | 1F52F symbols | 1F54A animals | 1F54B travel | 1F54E symbols | 1F550 symbols | 1F56F objects
1F573 objects | 1F574 people | 1F576 objects | 1F577 animals | 1F579 activities | 1F57A people | 1F587 objects
1F590 people | 1F5A4 smileys | 1F5A5 objects | 1F5E3 people | 1F5E8 symbols | 1F5F3 objects | 1F5FA travel
1F600 smileys | 1F645 people | 1F648 animals | 1F64B people | 1F680 travel | 1F6A3 people | 1F6A4 travel
1F6AA objects | 1F6AB symbols | 1F6B2 travel | 1F6B3 symbols | 1F6B4 people | 1F6B7 symbols | 1F6BD objects
1F6BE symbols | 1F6BF objects | 1F6C0 people | 1F6C1 objects | 1F6C2 symbols | 1F6CB objects | 1F6D0 symbols
1F6D1 travel | 1F6D2 objects | 1F6D5 travel | 1F6E0 objects | 1F6E2 travel | 1F7E0 symbols
1F90C people | 1F90D smileys | 1F90F people | 1F910 smileys | 1F918 people | 1F920 smileys | 1F926 people
1F927 smileys | 1F930 people | 1F93F activities | 1F940 plants | 1F941 objects | 1F942 food | 1F945 activities
1F950 food | 1F970 smileys | 1F977 people | 1F978 smileys | 1F97B objects | 1F980 animals | 1F9AF objects
1F9B0 people | 1F9BA objects | 1F9BB people | 1F9BC objects | 1F9BE people | 1F9C0 food | 1F9CC people
1F9D0 smileys | 1F9D1 people | 1F9E1 smileys | 1F9E2 objects | 1F9E9 activities | 1F9EA objects | 1FA75 smileys
1FA78 objects | 1FA80 activities | 1FA82 objects | 1FA90 weather | 1FA91 objects | 1FAA8 weather | 1FAA9 objects
1FAB0 animals | 1FAB4 plants | 1FAB8 animals | 1FAB9 animals | 1FABB plants | 1FABC animals | 1FABE plants
1FABF animals | 1FAC0 people | 1FAC8 animals | 1FAD0 food | 1FAE0 smileys | 1FAF0 people
"""
_TABLE = sorted(
    (int(start, 16), group)
    for start, group in (entry.split() for entry in _RANGES.replace("\n", "|").split("|") if entry.strip())
)
_STARTS = [start for start, _ in _TABLE]


def group_of(emoji: str) -> str:
    """The group of an emoji, by its first character; one of those above."""
    return _TABLE[bisect_right(_STARTS, ord(emoji[0])) - 1][1]
