"""Faster R-CNN, which finds the regions of an image that models take. Imports modeling, preprocessing and below."""
