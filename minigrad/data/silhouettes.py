"""The ten garments, each a function that draws on a `Canvas`: first the outline, then the details.

What tells neighbours apart is meant to be small, as in photographs of clothes: shirt, pullover and coat
share one cut, and differ in collar, buttons, opening and hem, each of which may be missing. A model has to
find these details; that is what a convolution is good at, and a linear model is not.

Shoes and sandals are drawn lying on the side: the rows of the canvas run from toe (v = -1) to heel (v = 1),
and u is the height, from -1 (top) to 1 (ground). `garments.py` turns them upright.

Next: `garments.py`, which adds the cloth and makes the data set.
"""

from __future__ import annotations

import numpy as np

from minigrad.data.canvas import Canvas, Numbers

__all__ = ["SILHOUETTES"]


# 1. Upper body: one cut, five garments ---


def _torso(c: Canvas, shoulder: Numbers, waist: Numbers, hem: Numbers, bottom: Numbers) -> np.ndarray:
    """Adds the trunk from shoulders to `bottom`; returns its half width by row."""
    shoulders = ((-1.0, 0.35 * shoulder), (-0.86, shoulder), (-0.5, 0.92 * shoulder))
    outline = c.profile(*shoulders, (0.1, waist), (bottom, hem))
    c.add(c.middle(outline, -1.0, bottom))
    return outline


def _sleeves(
    c: Canvas, shoulder: Numbers, end: Numbers, spread: Numbers, width: Numbers, there: Numbers = 1.0
) -> None:
    """Adds sleeves of the given width from the shoulders to the row `end`, `spread` further out there."""
    outer = c.profile((-0.95, 0.9 * shoulder), (-0.8, shoulder + 0.25 * spread), (end, shoulder + spread))
    inner = c.profile((-0.8, 0.7 * shoulder), (end, shoulder + spread - width))
    c.add(c.pair(inner, outer, -0.93, end) * there, c.between(0.82, 1.05))


def _neck(c: Canvas, width: Numbers, depth: Numbers, round_: Numbers) -> None:
    """Cuts the neck opening: `round_` 0 gives a V, 1 a rounded edge."""
    corner = (-1 + depth * (0.75 - 0.5 * round_), width * (0.4 + 0.45 * round_))
    edge = c.profile((-1.0, width), corner, (-1 + depth, 0.0))
    c.cut(c.middle(edge, -1.3, -1 + depth))


def _front(c: Canvas, light: Numbers, there: Numbers, top: Numbers, bottom: Numbers, width: Numbers) -> None:
    """A vertical line down the front: button strip, zip, or the gap of an open coat."""
    c.paint(c.middle(width, top, bottom) * there, light)


def _buttons(
    c: Canvas, light: Numbers, there: Numbers, top: Numbers, bottom: Numbers, count: Numbers
) -> None:
    """Dots along the front."""
    wave = np.cos((c.v - top) / (bottom - top) * count * np.float32(2 * np.pi))
    c.paint(c.middle(0.05, top, bottom) * np.clip(2 * wave - 0.5, 0, 1) * there, light)


def t_shirt(c: Canvas) -> None:
    """Short sleeves or none, a wide neck, now and then a print on the chest."""
    shoulder, bottom = c.between(0.5, 0.66), c.between(0.7, 1.05)
    _sleeves(c, shoulder, c.between(-0.5, 0.0), c.between(0.12, 0.42), c.between(0.25, 0.4), c.chance(0.88))
    _torso(c, shoulder, c.between(0.42, 0.6), c.between(0.42, 0.64), bottom)
    _neck(c, c.between(0.15, 0.34), c.between(0.12, 0.4), c.between(0.0, 1.0))
    low = c.between(-0.4, 0.1)
    chest = c.middle(c.between(0.15, 0.4), low, low + c.between(0.15, 0.6))
    c.paint(chest * c.chance(0.35), c.between(0.2, 1.5))
    _front(c, c.between(0.6, 0.9), c.chance(0.1), -1.0, bottom, 0.05)


def pullover(c: Canvas) -> None:
    """Long sleeves, a narrow neck, ribs at neck, cuffs and hem."""
    shoulder, bottom = c.between(0.46, 0.62), c.between(0.7, 1.05)
    cuff = c.between(0.35, 0.95)
    _sleeves(c, shoulder, cuff, c.between(0.08, 0.4), c.between(0.2, 0.34))
    outline = _torso(c, shoulder, c.between(0.42, 0.56), c.between(0.4, 0.58), bottom)
    _neck(c, c.between(0.12, 0.26), c.between(0.05, 0.22), c.between(0.4, 1.0))
    rib, there = c.between(0.65, 1.1), c.chance(0.7)
    c.paint(c.middle(outline, bottom - 0.13, bottom) * there, rib)
    c.paint(c.pair(outline, 1.5, cuff - 0.12, cuff) * there, rib)
    c.paint(c.middle(0.32, -1.0, -0.84) * there, rib)
    _front(c, c.between(0.6, 0.9), c.chance(0.12), -1.0, bottom, 0.05)


def coat(c: Canvas) -> None:
    """Long sleeves, lapels and a front opening; pockets, a belt."""
    shoulder, bottom = c.between(0.46, 0.62), c.between(0.85, 1.15)
    _sleeves(c, shoulder, c.between(0.4, 0.95), c.between(0.05, 0.36), c.between(0.2, 0.34))
    outline = _torso(c, shoulder, c.between(0.38, 0.54), c.between(0.42, 0.64), bottom)
    deep = c.between(-0.8, -0.2)
    lapel = c.profile((-1.0, c.between(0.14, 0.3)), (deep, 0.0))
    c.paint(c.middle(lapel, -1.0, deep), c.between(0.15, 0.6))
    c.paint(c.pair(lapel, lapel + 0.12, -1.0, deep) * c.chance(0.6), c.between(0.7, 1.3))
    _front(c, c.between(0.1, 0.6), c.chance(0.85), deep - 0.05, bottom, c.between(0.03, 0.09))
    pocket = c.between(0.1, 0.4)
    c.paint(c.pair(0.2, 0.36, pocket, pocket + 0.09) * c.chance(0.4), c.between(0.4, 0.8))
    belt = c.between(0.0, 0.2)
    c.paint(c.middle(outline, belt, belt + 0.1) * c.chance(0.2), c.between(0.4, 0.8))


def shirt(c: Canvas) -> None:
    """Long or short sleeves, a collar, a button strip."""
    shoulder, bottom = c.between(0.46, 0.64), c.between(0.75, 1.08)
    long = c.chance(0.7)
    end = long * c.between(0.4, 0.95) + (1 - long) * c.between(-0.5, 0.0)
    _sleeves(c, shoulder, end, c.between(0.08, 0.4), c.between(0.22, 0.36))
    _torso(c, shoulder, c.between(0.42, 0.56), c.between(0.42, 0.6), bottom)
    depth = c.between(0.1, 0.35)
    _neck(c, c.between(0.1, 0.24), depth, c.between(0.0, 0.5))
    edge = c.profile((-1.0, c.between(0.14, 0.24)), (-1 + depth, 0.03))
    c.paint(c.pair(edge, edge + 0.13, -1.0, -0.95 + depth) * c.chance(0.75), c.between(0.6, 1.4))
    there, top = c.chance(0.75), -1 + depth
    _front(c, c.between(0.75, 1.2), there, top, bottom, 0.07)
    _buttons(c, c.between(0.2, 1.6), there * c.chance(0.8), top, bottom, np.round(c.between(4, 6)))


def dress(c: Canvas) -> None:
    """Narrow above, wider below the waist, with or without sleeves."""
    shoulder, waist = c.between(0.3, 0.48), c.between(0.24, 0.42)
    sleeve = c.chance(0.4)
    end = np.where(c.chance(0.35) > 0, c.between(0.1, 0.5), c.between(-0.6, -0.3))
    _sleeves(c, shoulder, end, c.between(0.08, 0.32), c.between(0.16, 0.28), sleeve)
    at = c.between(-0.35, 0.05)
    hem = c.between(0.3, 0.62)
    outline = c.profile((-1.0, 0.45 * shoulder), (-0.86, shoulder), (at, waist), (1.0, hem))
    c.add(c.middle(outline, -1.0, c.between(0.85, 1.05)))
    _neck(c, c.between(0.1, 0.26), c.between(0.1, 0.4), c.between(0.0, 1.0))
    c.paint(c.middle(outline, at - 0.05, at + 0.05) * c.chance(0.4), c.between(0.4, 1.3))


# 2. Trousers and bags ---


def trouser(c: Canvas) -> None:
    """Two legs, long as a rule."""
    hip, ankle, bottom = c.between(0.36, 0.56), c.between(0.28, 0.56), c.between(0.85, 1.05)
    bottom = np.where(c.chance(0.08) > 0, c.between(0.0, 0.5), bottom)
    outline = c.profile((-1.0, 0.85 * hip), (-0.6, hip), (1.0, ankle))
    c.add(c.middle(outline, -1.0, bottom))
    crotch = c.between(-0.55, -0.2)
    gap = c.profile((crotch, 0.0), (crotch + 0.2, c.between(0.0, 0.06)), (1.0, ankle - c.between(0.14, 0.3)))
    c.cut(c.middle(np.minimum(gap, outline - 0.1), crotch, 1.3))
    c.paint(c.middle(0.05, crotch, 1.3), 0.5)
    c.paint(c.middle(outline, -1.0, -0.9) * c.chance(0.6), c.between(0.5, 1.2))
    c.paint(c.middle(0.04, -0.9, crotch) * c.chance(0.6), 0.6)


def bag(c: Canvas) -> None:
    """A box under an arched handle; a flap with a clasp."""
    top, bottom = c.between(-0.55, 0.0), c.between(0.55, 0.95)
    upper, lower = c.between(0.55, 0.95), c.between(0.6, 1.0)
    rounded_top, rounded_bottom = (top, 0.9 * upper), (bottom, 0.92 * lower)
    outline = c.profile(rounded_top, (top + 0.08, upper), (bottom - 0.1, lower), rounded_bottom)
    peak = np.maximum(top - c.between(0.25, 0.7), -1.0)
    reach = c.between(0.2, 0.75) * upper
    rise = np.clip((c.v - peak) / (top - peak), 0, 1)
    outer = reach * np.sqrt(rise * (2 - rise))
    rope = c.between(0.06, 0.16)
    handle = c.middle(outer, peak, top + 0.05)
    handle *= 1 - c.middle(outer - rope, peak + rope, top + 0.05)
    c.add(handle * c.chance(0.8), c.between(0.6, 1.1))
    c.add(c.middle(outline, top, bottom))
    flap = top + (bottom - top) * c.between(0.2, 0.7)
    there = c.chance(0.55)
    c.paint(c.middle(outline, flap - 0.04, flap + 0.04) * there, c.between(0.3, 0.7))
    clasp = c.middle(c.between(0.06, 0.16), flap - 0.08, flap + 0.1)
    c.paint(clasp * there * c.chance(0.7), c.between(0.2, 1.6))


# 3. Footwear, drawn lying on the side ---


def _sole(c: Canvas, under: np.ndarray, thick: Numbers, light: Numbers) -> None:
    """Adds a sole from the line `under` (the foot) down, `thick` high."""
    c.add(c.span(under, under + thick, -1.0, 1.0), light)


def sandal(c: Canvas) -> None:
    """A sole, flat or on a heel, and straps with gaps between them."""
    heel = np.where(c.chance(0.45) > 0, c.between(0.3, 1.0), c.between(0.0, 0.2))
    foot = c.profile((-1.0, 0.75), (-0.2, 0.75 - 0.15 * heel), (0.7, 0.75 - heel))
    rise = c.between(0.35, 0.9)
    back = c.between(0.3, 1.1)
    instep = c.between(0.2, 1.0) * rise
    over = foot - c.profile((-1.0, 0.05), (-0.6, 0.4 * rise), (0.2, instep), (0.55, back), (1.0, back))
    lean = c.between(-0.9, 0.9)
    phase = (c.v + lean * c.u) * c.between(1.2, 2.6) + c.between(0.0, 1.0)
    strap = np.clip((np.abs(phase - np.floor(phase) - 0.5) - c.between(0.12, 0.3)) * 9 + 0.5, 0, 1)
    straps = c.span(over, foot, -1.0, 1.0) * strap
    c.add(straps, c.between(0.6, 1.2))
    c.add(c.span(over, over + 0.2, c.between(-0.9, 0.4), 1.0) * c.chance(0.6), c.between(0.7, 1.2))
    _sole(c, foot, c.between(0.08, 0.22), c.between(0.5, 1.1))
    c.add(c.span(foot, 0.9, 1 - c.between(0.12, 0.5), 0.97) * (heel > 0.25), c.between(0.5, 1.0))


def sneaker(c: Canvas) -> None:
    """A closed low shoe with a thick sole; laces, a mark on the side."""
    thick = c.between(0.08, 0.28)
    foot = 0.9 - thick + 0 * c.v
    toe, collar = c.between(0.3, 0.6), c.between(0.7, 1.3)
    cap = ((-1.0, 0.35 * toe), (-0.8, toe), (-0.3, toe + 0.1))
    opening = ((0.25, collar), (0.6, 0.85 * collar), (0.95, c.between(0.9, 1.15) * collar))
    over = foot - c.profile(*cap, *opening)
    c.add(c.span(over, foot, -1.0, 0.97))
    laces = np.clip(np.sin((c.v - 0.6 * c.u) * c.between(14, 22)) * 2, 0, 1)
    c.paint(c.span(over, over + 0.3, -0.35, 0.25) * laces * c.chance(0.7), c.between(0.4, 1.5))
    at, lean = c.between(-0.1, 0.5), c.between(-0.8, 0.8)
    mark = np.clip((c.between(0.06, 0.2) - np.abs(c.v - at - lean * c.u)) * 9 + 0.5, 0, 1)
    c.paint(c.span(over + 0.15, foot, -0.6, 0.9) * mark * c.chance(0.6), c.between(0.3, 1.6))
    _sole(c, foot, thick, c.between(0.4, 1.4))


def ankle_boot(c: Canvas) -> None:
    """A closed shoe with a shaft."""
    heel = np.where(c.chance(0.4) > 0, c.between(0.2, 0.6), c.between(0.0, 0.12))
    thick = c.between(0.06, 0.2)
    foot = c.profile((-1.0, 0.92 - thick), (-0.2, 0.92 - thick - 0.1 * heel), (0.5, 0.92 - thick - heel))
    toe, shaft = c.between(0.3, 0.6), c.between(-1.05, -0.35)
    front = c.between(-0.15, 0.3)
    cap = ((-1.0, 0.85 - 0.4 * toe), (-0.8, 0.9 - toe), (front - 0.35, 0.75 - toe))
    over = c.profile(*cap, (front, shaft), (1.0, shaft + c.between(-0.1, 0.1)))
    c.add(c.span(over, foot, -1.0, 0.97))
    c.paint(c.span(over, over + c.between(0.1, 0.3), front, 1.0) * c.chance(0.4), c.between(0.5, 1.4))
    at = c.between(front, 0.7)
    c.paint(c.span(over, foot, at - 0.05, at + 0.05) * c.chance(0.4), c.between(0.4, 1.4))
    _sole(c, foot, thick, c.between(0.4, 1.2))
    c.add(c.span(foot, 0.95, 1 - c.between(0.3, 0.6), 0.97) * (heel > 0.15), c.between(0.5, 1.0))


# In the order of the labels 0 to 9.
SILHOUETTES = (t_shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle_boot)
