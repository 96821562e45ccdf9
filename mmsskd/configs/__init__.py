"""Configs for ``with read_base(): from mmsskd.configs... import *``, MMEngine's pure-Python form."""
