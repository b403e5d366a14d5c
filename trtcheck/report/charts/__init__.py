"""Pictures of figures: plain SVG without script or inline style, made from data by pure functions.

`chart` is what a picture is, `marks` what it is made of, `scales` and `axes` where things stand; every other
module draws one kind of picture. Colours come from the style sheet, so that dark mode and print work.
"""
