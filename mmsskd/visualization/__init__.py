"""Pictures of a run, for people: curves, the timeline of phases, feature maps side by side, a page that holds them."""
