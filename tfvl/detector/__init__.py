"""Faster R-CNN: from an image to the regions that models take. Imports modeling, preprocessing and what is below."""
