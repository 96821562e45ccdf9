#!/usr/bin/env python
"""Teach a student on a folder of images: look at the data, choose the recipe, train, and leave the student and a report."""

from mmsskd.cli.distill import main

if __name__ == '__main__':
    main()
