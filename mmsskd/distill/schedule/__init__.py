"""The schedule of a run: when phases change, what the Runner must do then, and what is checked before and measured meanwhile."""
