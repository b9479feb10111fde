"""Faster R-CNN for region features: from an image to the regions that LXMERT and VisualBERT take."""
