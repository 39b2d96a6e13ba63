"""The functional core: one op a file, its forward and its hand-derived backward side by side.

Dimension letters, the same in every file:

B batch · T query positions (time) · S key positions · C model channels · H heads (query)
G key/value heads · D channels of a head · F feed-forward channels · K recurrent channels
V vocabulary · N rows of any kind · L layers
"""
