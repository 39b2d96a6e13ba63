"""A scale from white to dark blue: one hue, so that every eye reads it by its lightness."""

__all__ = ["CLASSES", "ink_on", "shade"]

# Three blues of Brewer's sequential scheme (Harrower & Brewer 2003, "ColorBrewer.org"), between
# which lightness falls evenly.
ANCHORS = ((247, 251, 255), (107, 174, 214), (8, 48, 107))
CLASSES = 16  # shades that are told apart where a shade is a class of CSS


def shade(share):
    """The colour, "#rrggbb", of a share from 0 (white) to 1 (dark blue); beyond, of the nearest."""
    at = 2 * min(max(share, 0.0), 1.0)
    low = min(int(at), 1)
    mixed = (a + (b - a) * (at - low) for a, b in zip(ANCHORS[low], ANCHORS[low + 1], strict=True))
    return "#" + "".join(f"{round(part):02x}" for part in mixed)


def ink_on(background):
    """Black or white, whichever stands out more from "#rrggbb" (WCAG 2.1, relative luminance)."""
    parts = [int(background[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    # contrast (lighter + 0.05) / (darker + 0.05), with white 1 and black 0
    return "#000000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"
