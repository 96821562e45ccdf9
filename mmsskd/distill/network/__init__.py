"""Networks: where they are cut, how a forward is watched and ended, and how two of them are paired."""
