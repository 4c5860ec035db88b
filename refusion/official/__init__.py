"""The authors' released files: their weights (.pth) and their option files (YAML), both dialects.

Source of all that is known of them here: https://github.com/Algolzw/image-restoration-sde
"""
